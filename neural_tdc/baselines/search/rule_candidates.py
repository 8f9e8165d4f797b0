"""Learning rules as candidates for the best value function: rules × λ × splits, on folds.

Every rule learns with Adam and steps that fall to 0, on segments of 16 transitions drawn from its
folds, at the same scale of observations and rewards as all candidates. They cost several times as
much as the other families together, so they are tried where they are asked for.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch

from neural_tdc.baselines.candidates import CandidateGroup, Folds
from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.log_preparation import joined
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import sampling_scheme
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.mlp_population import Layer
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters, StepSizes, Transition, mapped

# λ, and the steps of head and auxiliary vector in those of the body.
RULE_DECAYS, SPLITS = (0.0, 0.9), (1.0, 10.0)
BODY_STEP = 1e-3
_WIDTH, _SEGMENTS, _SEGMENT_LENGTH = 64, 8, 16


def rule_groups(
    folds: Folds, rules: Sequence[str], updates: int, seed: int
) -> Iterator[CandidateGroup]:
    """Learn every rule with every λ and split on every fold.

    rules:   names of `RULES`, each a family of its own
    updates: of each, with a batch of 128 transitions
    """
    seen = [joined([folds.parts[part] for part in learned]) for learned in folds.learned]
    # Folds of the same length: a few transitions of the longer ones are left out.
    shortest = min(len(stream.reward) for stream in seen)
    streams = Transition(
        *(torch.stack([leaf[:shortest] for leaf in leaves]) for leaves in zip(*seen))
    )
    runs = len(SPLITS) * len(seen)
    experience = Experience(
        mapped(streams, torch.Tensor.float),
        None,
        torch.arange(len(seen)).repeat(len(SPLITS)),
        keys(seed, len(seen), "rule candidates").repeat(len(SPLITS)),
    )
    split = torch.tensor(SPLITS).repeat_interleave(len(seen))
    scheme = sampling_scheme("sequences", batch=_SEGMENTS, sequence_length=_SEGMENT_LENGTH)
    for name in rules:
        for decay in RULE_DECAYS:
            algorithm, state = prepare(
                RULES[name].with_lambda_returns(decay),
                partial(mlp, features=_WIDTH, hidden=(_WIDTH,)),
                experience.transitions.observation[0, :256],
                runs=runs,
                seed=seed,
                optimizers=part_optimizers("adam", None),
            )
            same = base_steps(algorithm.rule, (BODY_STEP,) * 3, runs, split)
            sizes = StepSizes(same.body, same.head * split, same.auxiliary * split)
            *_, last = learn(
                algorithm,
                state,
                experience,
                sizes,
                schedule("linear", updates),
                scheme,
                lambda parameters: {},
                steps=updates,
                measured=[updates],
                limit=divergence_limit(state.parameters),
            )
            parameters = _without_diverged(last.parameters, last.diverged)
            for place, ratio in enumerate(SPLITS):
                members = range(place * len(seen), (place + 1) * len(seen))
                yield _group(name, {"lambda": decay, "split": ratio}, parameters, members)


def _without_diverged(parameters: Parameters, diverged: torch.Tensor) -> Parameters:
    """Return the parameters with heads that are not finite for diverged runs."""
    missing = torch.full_like(parameters.head, torch.nan)
    return parameters._replace(head=torch.where(diverged[:, None], missing, parameters.head))


def _group(
    name: str, settings: dict[str, float], parameters: Parameters, members: Sequence[int]
) -> CandidateGroup:
    """Return one candidate, its runs being the folds."""
    # The body's layers in their order: weight and bias each, [output, input] as in nn.Linear.
    leaves = list(parameters.body.values())
    blocks = []
    for run in members:
        layers = zip(leaves[::2], leaves[1::2])
        block = Block("tanh", tuple(Layer(weight[run].T, bias[run]) for weight, bias in layers))
        blocks.append([block])
    head = parameters.head[list(members)].double()
    constant = torch.zeros_like(head[:, :1])
    return CandidateGroup(name, [settings], blocks, torch.cat([head, constant], 1)[:, None])
