"""From a simulator to a log and to the truth: a stream of experience, and true values."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Array = np.ndarray
Step = tuple[Array, Array, Array]

# States at which the truth is known, and returns averaged at each where it is not exact.
STATES, ROLLOUTS = 400, 800
# Monte Carlo returns end where the discount has fallen below this.
NEGLIGIBLE = 1e-3


class Problem(NamedTuple):
    """A policy to evaluate in a simulator; n states are [n, …] throughout.

    start:      (rng, n) -> states
    step:       (rng, states, actions) -> next states, rewards [n], terminated [n]
    observe:    states -> observations [n, o]
    target:     states -> probabilities [n, actions] of the policy to evaluate
    behaviour:  states -> probabilities of the policy that acts; None: the target acts
    exact:      states -> values [n]; None where the truth is Monte Carlo
    limit:      steps after which an episode is cut in the log (a truncation); 0 for none
    """

    name: str
    discount: float
    start: Callable[[np.random.Generator, int], Array]
    step: Callable[[np.random.Generator, Array, Array], Step]
    observe: Callable[[Array], Array]
    target: Callable[[Array], Array]
    behaviour: Callable[[Array], Array] | None = None
    exact: Callable[[Array], Array] | None = None
    limit: int = 0


class Log(NamedTuple):
    """One stream of experience, [time, …] each; `ratio` is π(a|s) / b(a|s)."""

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    next_observation: Array
    behaviour_probability: Array
    target_probability: Array
    next_target: Array

    @property
    def ratio(self) -> Array:
        """Return the importance ratio of every action taken, [time]."""
        return self.target_probability / self.behaviour_probability


class Truth(NamedTuple):
    """True values at states that the behaviour visits, and their standard errors (0: exact).

    policy: probabilities of the target's actions there, [state, actions]
    """

    observation: Array
    policy: Array
    value: Array
    error: Array


def drawn_actions(rng: np.random.Generator, probabilities: Array) -> Array:
    """Draw one action a state, [n]."""
    uniform = rng.random((len(probabilities), 1))
    return (uniform > probabilities.cumsum(1)[:, :-1]).sum(1)


def collect(problem: Problem, steps: int, seed: int) -> tuple[Log, Array]:
    """Simulate one stream of the acting policy; also return the states, [time, …]."""
    rng = np.random.default_rng([seed, 0])
    acting = problem.behaviour or problem.target
    rows: list[tuple] = []
    state, age = problem.start(rng, 1), 0
    for _ in range(steps):
        chances, wanted = acting(state), problem.target(state)
        action = drawn_actions(rng, chances)
        after, reward, terminated = problem.step(rng, state, action)
        age += 1
        truncated = bool(problem.limit and age >= problem.limit and not terminated[0])
        rows.append(
            (
                problem.observe(state)[0],
                action[0],
                reward[0],
                terminated[0],
                truncated,
                problem.observe(after)[0],
                chances[0, action[0]],
                wanted[0, action[0]],
                problem.target(after)[0],
                state[0],
            )
        )
        state = after
        if terminated[0] or truncated:
            state, age = problem.start(rng, 1), 0
    *columns, states = (np.array(column) for column in zip(*rows))
    return Log(*columns), states


def truth(problem: Problem, seed: int) -> Truth:
    """Return true values at states of a stream that no learner sees."""
    rng = np.random.default_rng([seed, 1])
    _, visited = collect(problem, 20 * STATES, seed + 10_000)
    states = visited[rng.permutation(len(visited))[:STATES]]
    observation, policy = problem.observe(states), problem.target(states)
    if problem.exact is not None:
        return Truth(observation, policy, problem.exact(states), np.zeros(STATES))
    state = states.repeat(ROLLOUTS, 0)
    total, weight = np.zeros(len(state)), np.ones(len(state))
    while weight.max() > NEGLIGIBLE:
        action = drawn_actions(rng, problem.target(state))
        state, reward, terminated = problem.step(rng, state, action)
        total += weight * reward
        weight = np.where(terminated, 0.0, weight * problem.discount)
    returns = total.reshape(STATES, ROLLOUTS)
    error = returns.std(1, ddof=1) / np.sqrt(ROLLOUTS)
    return Truth(observation, policy, returns.mean(1), error)
