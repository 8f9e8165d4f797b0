"""The instances of `experiments.convergence`: Lemma 4.1, a smooth regression, a chain.

Each has batches of one sample, gradients in closed form, and optionally an auxiliary vector on the
head's time scale; its reduced objective is known exactly.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.convergence.scalar_instance import ScalarInstance
from experiments.convergence.stochastic_approximation import Instance
from neural_tdc.metrics.markov_chain import MarkovChain
from neural_tdc.metrics.transition_matrices import stationary_weighting
from neural_tdc.randomness import generator
from neural_tdc.rules.auxiliaries import CovarianceAuxiliary
from neural_tdc.rules.batch_terms import BatchTerms, InnerProducts, RowWeights, outer, plus
from neural_tdc.rules.bodies import MspbeBody
from neural_tdc.rules.heads import TdcHead
from neural_tdc.stackelberg.newton import local_minimum
from neural_tdc.stackelberg.problems import (
    StackelbergProblem,
    policy_evaluation,
    reduced_objective,
    regression,
)
from neural_tdc.types import Parameters


def _empty(like: Tensor) -> Tensor:
    return like.new_empty(0)


def scalar_descent(instance: ScalarInstance | None = None, noise: float = 1.0) -> Instance:
    """Make Lemma 4.1's instance stochastic: its label 1 becomes 1 + noise · N(0, 1) in a sample.

    f is quadratic in the label, so that a sample's gradients are unbiased.
    """
    instance = ScalarInstance() if instance is None else instance
    low, high = instance.interval()
    minimiser = torch.tensor([instance.minimiser()], dtype=torch.float64)

    def directions(parameters: Parameters, sample: Tensor) -> Parameters:
        body, head, auxiliary = parameters
        error = body * head - sample
        return Parameters(
            error * head + instance.decay * body,
            error * body + instance.ridge * head,
            auxiliary,
        )

    def draw(source: torch.Generator, updates: int) -> Tensor:
        return 1 + noise * torch.randn(updates, 1, generator=source, dtype=torch.float64)

    return Instance(
        start=Parameters(
            torch.full_like(minimiser, 2.0), torch.zeros_like(minimiser), _empty(minimiser)
        ),
        draw=draw,
        directions=directions,
        bounds=((low, high), (-10.0, 10.0)),
        problem=StackelbergProblem(
            lambda body, head: instance.objective(body, head).sum(),
            instance.best_response,
        ),
        minimiser=minimiser,
    )


def _with_decay(problem: StackelbergProblem, decay: float) -> StackelbergProblem:
    def objective(body: Any, head: Tensor) -> Tensor:
        return problem.objective(body, head) + decay / 2 * body.square().sum()

    return StackelbergProblem(objective, problem.best_response)


def _local_minimiser(problem: StackelbergProblem, start: Tensor) -> Tensor:
    def reduced(flat: Tensor) -> Tensor:
        return reduced_objective(problem, flat.reshape(start.shape))

    return local_minimum(reduced, start.reshape(-1)).reshape(start.shape)


def _normal(*shape: int, name: str) -> Tensor:
    # One instance for all seeds of an experiment: those are for its samples.
    return torch.randn(*shape, generator=generator(0, "instance", name), dtype=torch.float64)


def regression_descent(
    samples: int = 20, inputs: int = 3, features: int = 2, ridge: float = 0.1, decay: float = 0.05
) -> Instance:
    """Make a smooth regression (8) with tanh features, labels of a tanh teacher plus 0.3 · N(0, 1).

    decay: m of m/2 ‖W‖² added to f, as in Lemma 4.1, which keeps W* away from infinity
    A sample is one row, drawn uniformly.
    """
    observation = _normal(samples, inputs, name="observation")
    teacher = torch.tanh(observation @ _normal(inputs, features, name="teacher"))
    target = teacher @ (2 * _normal(features, name="teacher's head").sign())
    target = target + 0.3 * _normal(samples, name="label")

    def directions(parameters: Parameters, sample: Tensor) -> Parameters:
        body, head, auxiliary = parameters
        row = observation[sample][..., None]
        feature = torch.tanh((row * body).sum(-2))
        error = ((feature * head).sum(-1) - target[sample])[..., None]
        backward = error * head * (1 - feature.square())
        return Parameters(
            row * backward[..., None, :] + decay * body, error * feature + ridge * head, auxiliary
        )

    def draw(source: torch.Generator, updates: int) -> Tensor:
        return torch.randint(samples, (updates,), generator=source)

    plain = regression(lambda body, rows: torch.tanh(rows @ body), observation, target, ridge)
    problem = _with_decay(plain, decay)
    body = 0.5 * _normal(inputs, features, name="start")
    head = torch.zeros(features, dtype=torch.float64)
    return Instance(
        start=Parameters(body, head, _empty(head)),
        draw=draw,
        directions=directions,
        bounds=((-10.0, 10.0), (-10.0, 10.0)),
        problem=problem,
        minimiser=_local_minimiser(problem, body),
    )


def small_chain(states: int = 6, discount: float = 0.8) -> MarkovChain:
    """Make a chain of its own: random transitions, a third of their weight on the next state."""
    weights = _normal(states, states, name="transition").square()
    ring = torch.eye(states, dtype=torch.float64).roll(1, 1)
    transition = 2 / 3 * weights / weights.sum(1, keepdim=True) + ring / 3
    reward = 1 + _normal(states, name="reward")
    return MarkovChain(transition, reward, discount, stationary_weighting(transition))


def small_observation(states: int = 6, inputs: int = 3) -> Float[Tensor, "state input"]:
    """Return what a body sees of the states of `small_chain`."""
    return _normal(states, inputs, name="chain's observation")


def chain_descent(
    chain: MarkovChain | None = None,
    inputs: int = 3,
    features: int = 2,
    ridge: float = 0.1,
    decay: float = 0.05,
    epsilon: float = 0.1,
) -> Instance:
    """Make policy evaluation by Algorithm 1 on a finite chain, with a ridge λ on the head.

    f = ½ bᵀ(C + εI)⁻¹b + λ/2 ‖θ‖² + m/2 ‖W‖²; the features are a constant and tanh features of
    random observations of the states. Without the constant Φ would be 0 with the ridge too, at
    every W whose features do not correlate with the reward, b₀ = E[rφ] = 0.
    A sample is one transition, its state drawn from the chain's weighting. ε adds −εω to the
    auxiliary's update and to the head's, which at ω* = (C + εI)⁻¹b leaves all of them unbiased.
    Source: Algorithm 1, appendix E of arXiv 2605.15530.
    """
    chain = small_chain() if chain is None else chain
    states, discount = len(chain.reward), chain.discount
    observation = small_observation(states, inputs)
    flows = (chain.weighting[:, None] * chain.transition).reshape(-1)

    def directions(parameters: Parameters, sample: Tensor) -> Parameters:
        body, head, omega = parameters
        state = sample // states
        row, next_row = observation[state][..., None], observation[sample % states][..., None]
        learned = torch.tanh((row * body).sum(-2))
        next_learned = torch.tanh((next_row * body).sum(-2))
        feature, following = with_constant(learned), with_constant(next_learned)
        error = chain.reward[state] + ((discount * following - feature) * head).sum(-1)
        one = torch.ones_like(error)
        s = BatchTerms(feature, following, head, error, one, discount * one)
        value = (feature * omega).sum(-1)
        inner = InnerProducts(omega, omega, value, s.weighted(value))
        into, into_next = MspbeBody().cotangents(s, inner, {})
        into = into[..., 1:] * (1 - learned.square())
        into_next = into_next[..., 1:] * (1 - next_learned.square())
        to_head = added_by_one(s, TdcHead().weights(s, inner))
        to_auxiliary = added_by_one(s, CovarianceAuxiliary().weights(s, inner))
        return Parameters(
            row * into[..., None, :] + next_row * into_next[..., None, :] + decay * body,
            epsilon * omega + ridge * head - to_head,
            epsilon * omega - to_auxiliary,
        )

    def draw(source: torch.Generator, updates: int) -> Tensor:
        return torch.multinomial(flows, updates, replacement=True, generator=source)

    problem = _with_decay(chain_problem(chain, observation, ridge, epsilon), decay)
    body = 0.5 * _normal(inputs, features, name="chain's start")
    head = torch.zeros(1 + features, dtype=torch.float64)
    return Instance(
        start=Parameters(body, head, head.clone()),
        draw=draw,
        directions=directions,
        bounds=((-10.0, 10.0), (-10.0, 10.0)),
        problem=problem,
        minimiser=_local_minimiser(problem, body),
    )


def added_by_one(s: BatchTerms, row: RowWeights) -> Float[Tensor, "*run feature"]:
    """Return what a row adds for one transition of each of many runs."""
    weight = plus(s.error, row.feature) if row.error else row.feature
    assert weight is not None
    total = outer(weight, s.feature)
    if row.next_feature is None:
        return total
    return total + outer(row.next_feature, s.next_feature)


def with_constant(features: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch more"]:
    """Put a feature that is always 1 before the others."""
    return torch.cat([torch.ones_like(features[..., :1]), features], -1)


def chain_problem(
    chain: MarkovChain, observation: Float[Tensor, "state input"], ridge: float, epsilon: float
) -> StackelbergProblem:
    """Return ½ bᵀ(C + εI)⁻¹b + λ/2 ‖θ‖² of a constant and tanh features.

    With λ = 0 its Φ is 0 everywhere; see `chain_descent` for the constant.
    """

    def moments(body: Tensor) -> Any:
        found = chain.moments(with_constant(torch.tanh(observation @ body)))
        identity = torch.eye(len(found.C), dtype=found.C.dtype)
        return found._replace(C=found.C + epsilon * identity)

    return policy_evaluation(moments, ridge)
