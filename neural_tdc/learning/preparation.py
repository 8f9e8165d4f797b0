"""From a rule, a body and step sizes to the state of a population before its first update."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.devices import checked_device
from neural_tdc.learning.algorithm import Algorithm, State, initial_state
from neural_tdc.learning.averaging import NO_AVERAGE, Averaging
from neural_tdc.learning.optimisers import (
    PLAIN_STEPS,
    SGD,
    PartOptimizers,
    initial_optimizer_state,
)
from neural_tdc.learning.projections import projection
from neural_tdc.networks.bodies import initial_bodies
from neural_tdc.networks.feature_map import feature_map, given_features
from neural_tdc.networks.validation import check_body
from neural_tdc.randomness import generator
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Body, FeatureMap, MakeBody, Parameters, StepSizes


def prepare(
    rule: Rule,
    make_body: MakeBody | None,
    observation: Tensor,
    *,
    runs: int,
    seed: int,
    optimizers: PartOptimizers = PLAIN_STEPS,
    constraint: str = "none",
    averaging: Averaging = NO_AVERAGE,
    head: Tensor | None = None,
    device: torch.device | str | None = None,
) -> tuple[Algorithm, State]:
    """Return the algorithm and the initial state of all runs, on the device to learn on.

    observation: [sample, *observation] at least two that the learner may see, in the dtype to
        learn in; rules scale their own features by them
    make_body:   None where the observations are the features; the rule's body is then frozen
    head:        [feature] θ₀ of every run, 0 if not given
    device:      to learn on; the observations' if not given

    Everything is made on the CPU, run by run, and moved once. What is drawn for run i depends on
    (seed, i) only. Raises ValueError in one line for a body, rule or device that
    cannot be.
    """
    device = checked_device(observation.device if device is None else device)
    observation = observation.cpu()
    shape = tuple(observation.shape[1:])
    bodies: Body = {}
    features: FeatureMap = given_features
    if make_body is None:
        if len(shape) != 1:
            raise ValueError(f"given features are vectors, not observations of shape {shape}")
        rule, width = rule.with_given_features(), shape[0]
    else:
        module, bodies = initial_bodies(make_body, shape, seed, runs)
        width = check_body(module, observation[:3])
        bodies = {name: tensor.to(observation) for name, tensor in bodies.items()}
        # Its buffers too, which an update would else bring to the device again and again.
        features = feature_map(module.to(device))
    if rule.best_response_head:
        # Rescaled, the direction would miss the assignment that it leads to.
        optimizers = optimizers._replace(head=SGD)
    algorithm = Algorithm(rule, features, optimizers, projection(constraint), averaging)
    start = observation.new_zeros(width) if head is None else head.to(observation)
    state = initial_population(algorithm, bodies, start, observation, seed, runs)
    if device.type != "cpu":
        state = tree_map(lambda leaf: leaf.to(device), state)
        # Optimisers bring their tables to the device before an update needs them.
        initial_optimizer_state(optimizers, tree_map(lambda leaf: leaf[0], state.parameters))
    return algorithm, state


def initial_population(
    algorithm: Algorithm, bodies: Body, head: Tensor, observation: Tensor, seed: int, runs: int
) -> State:
    """Return the state of all runs before the first update; see `prepare`.

    bodies: tensors with a leading run axis, empty for given features; head: [feature]
    observation: […] one observation, without a batch axis
    """
    states = []
    for run in range(runs):
        body = {name: tensor[run] for name, tensor in bodies.items()}
        parameters, rule_state = algorithm.rule.init(
            Parameters(body, head, {}), observation, generator(seed, "rule", run)
        )
        states.append(initial_state(algorithm, parameters, rule_state))
    return tree_map(lambda *leaves: torch.stack(leaves), *states)


def base_steps(
    rule: Rule, sizes: StepSizes | Sequence[float], runs: int, like: Tensor
) -> StepSizes:
    """Return base step sizes [run] each, as the rule takes them.

    sizes: of body, head and auxiliary vector; like: a tensor with the precision and device to use
    """
    taken = rule.step_sizes(StepSizes(*sizes))
    return StepSizes(*(like.new_full((runs,), size) for size in taken))
