"""Small problems on which rules for policy evaluation are known to fail, and two relatives."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from envs.finite.finite_mdp import FiniteMDP, finite_mdp
from neural_tdc.randomness import generator

# The spiral's rate of growth ε, and V at θ = 0.
SPIRAL_GROWTH = 0.01
SPIRAL_START = (100.0, -70.0, -30.0)


def _choice_of_state(states: int) -> Tensor:
    """Return the transitions of actions that each lead to the state of the same number."""
    return torch.eye(states, dtype=torch.float64).expand(states, states, states)


def two_states() -> FiniteMDP:
    """Make the two states with features 1 and 2, on which off-policy TD diverges.

    An action leads to the state of its number. The target always takes action 1, the behaviour
    both with probability ½, so that both states are visited equally often; no reward, γ = .99, the
    initial head is 1. With γ > 5/6 TD's expected update grows. TDRC's does too where its κ exceeds
    3γ − 2.5, and so at κ = 1: A = 2.5 − 3γ is negative, and A(1 − 3γ/(2.5 + κ)) must not be.
    Source: Tsitsiklis & Van Roy 1996; Sutton & Barto 2018, section 11.2.
    """
    return finite_mdp(
        transition=_choice_of_state(2),
        reward=torch.zeros(2, 2, 2),
        discount=0.99,
        target=[[0.0, 1.0]] * 2,
        behaviour=[[0.5, 0.5]] * 2,
        features=[[1.0], [2.0]],
        initial_head=[1.0],
        steps=5_000,
        name="two-states",
    )


def kolter() -> FiniteMDP:
    """Make Kolter's two states, on which the TD fixed point is far from all good values.

    An action leads to the state of its number. The target takes both with probability ½, the
    behaviour takes action 0 with .714; γ = .99. The values are 1 and 1.05, the one feature is 1
    and 1.0501, so that its best head has an RMSVE of 4e-5; A is nearly 0, and the fixed point
    of TD, to which LSTD and gradient TD lead, has one of .59. At .715 A is 0.
    Source: Kolter 2011, "The Fixed Points of Off-Policy TD".
    """
    discount, value = 0.99, torch.tensor([1.0, 1.05], dtype=torch.float64)
    reward = value - discount * value.mean()
    return finite_mdp(
        transition=_choice_of_state(2),
        reward=reward[:, None, None].expand(2, 2, 2),
        discount=discount,
        target=[[0.5, 0.5]] * 2,
        behaviour=[[0.714, 0.286]] * 2,
        features=[[1.0], [1.0501]],
        steps=20_000,
        name="kolter",
    )


def collision(seed: int = 0) -> FiniteMDP:
    """Make the Collision task: off-policy, 8 states in a row, large products of ratios.

    An episode starts in one of the first four states. Action 0 leads to the next state, and from
    the last one into an obstacle, which ends the episode with reward 1; action 1 turns away, which
    ends it with reward 0. The target always takes action 0; the behaviour does in the first
    four states and turns away with probability ½ in the others; γ = .9, so that the value of
    state i is .9^(7 − i). The features are 6 bits of which 3 are 1, different for all states,
    drawn from the seed. Source: Ghiassian & Sutton 2021, arXiv 2106.00922, as its text
    describes the task; the draws of the features are this library's own.
    """
    states = 8
    transition = torch.zeros(states, 2, states, dtype=torch.float64)
    termination = torch.zeros(states, 2, dtype=torch.float64)
    for state in range(states - 1):
        transition[state, 0, state + 1] = 1
    termination[states - 1, 0] = 1
    termination[:, 1] = 1
    terminal_reward = torch.zeros_like(termination)
    terminal_reward[states - 1, 0] = 1
    triples = torch.combinations(torch.arange(6), 3)
    chosen = torch.randperm(len(triples), generator=generator(seed, "collision"))[:states]
    return finite_mdp(
        transition=transition,
        reward=torch.zeros_like(transition),
        discount=0.9,
        termination=termination,
        terminal_reward=terminal_reward,
        start=[0.25] * 4 + [0.0] * 4,
        target=[[1.0, 0.0]] * states,
        behaviour=[[1.0, 0.0]] * 4 + [[0.5, 0.5]] * 4,
        features=torch.zeros(states, 6, dtype=torch.float64).scatter(1, triples[chosen], 1.0),
        steps=20_000,
        name=f"collision-{seed}",
    )


def random_walk_19() -> FiniteMDP:
    """Make the walk of 19 states, on-policy, on which λ is usually studied.

    The walk starts in the middle and steps left or right with probability ½; leaving on the left
    gives −1, on the right +1; γ = 1; one feature a state. Source: Sutton & Barto 2018, section 7.1.
    """
    states = 19
    transition = torch.zeros(states, 1, states, dtype=torch.float64)
    for state in range(states):
        for reached in (state - 1, state + 1):
            if 0 <= reached < states:
                transition[state, 0, reached] = 0.5
    termination = 1 - transition.sum(-1)
    terminal_reward = torch.zeros_like(termination)
    terminal_reward[0], terminal_reward[-1] = -1, 1
    return finite_mdp(
        transition=transition,
        reward=torch.zeros_like(transition),
        discount=1.0,
        termination=termination,
        terminal_reward=terminal_reward,
        start=torch.eye(states)[states // 2],
        steps=5_000,
        name="random-walk-19",
    )


def spiral() -> FiniteMDP:
    """Make the three states of the spiral, on which TD with a nonlinear body diverges on-policy.

    From a state the chain stays or goes to the one before it, each with probability ½; no reward,
    γ = .9. With `--body envs.finite.counterexamples:spiral_body`, a head that does not learn
    (`--head-step 0`) and the rule `td` the values grow without end; Algorithm 1 shrinks them.
    Source: Tsitsiklis & Van Roy 1997, section X.
    """
    stay = torch.eye(3, dtype=torch.float64)
    return finite_mdp(
        transition=(stay + stay.roll(-1, 1))[:, None, :] / 2,
        reward=torch.zeros(3, 1, 3),
        discount=0.9,
        steps=20_000,
        name="spiral",
    )


class SpiralBody(nn.Module):
    """One feature of three states: the component of e^{θ(Q + εI)}·V₀ that belongs to the state.

    θ is the one parameter and begins at 0. V(θ) turns on a spiral around 0 in the plane of vectors
    whose components sum to 0 and its length is e^{εθ} times that of V₀.
    """

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(()))

    def forward(self, observation: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 1"]:
        """Return [batch, 1] for one-hot states."""
        start = observation.new_tensor(SPIRAL_START)
        # On vectors of sum 0 the Q of the source, I + R/2 + 3R²/2 with the rotation R of the
        # states, is √3/2 times a turn by 90°, (R² − R)/√3.
        turned = (start.roll(1) - start.roll(-1)) / math.sqrt(3)
        angle, growth = math.sqrt(3) / 2 * self.theta, torch.exp(SPIRAL_GROWTH * self.theta)
        values = growth * (torch.cos(angle) * start + torch.sin(angle) * turned)
        return (observation @ values)[:, None]


def spiral_body(shape: tuple[int, ...]) -> nn.Module:
    """Make the body of the spiral; ValueError for a `shape` that is not (3,)."""
    if tuple(shape) != (3,):
        raise ValueError(f"the spiral has one-hot observations of 3 states, not {tuple(shape)}")
    return SpiralBody()
