"""Small populations on chains, and how their states are compared."""

import torch
from torch.utils._pytree import tree_leaves, tree_map

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from envs.finite.streams import simulate_streams
from neural_tdc.learning.experience import Experience
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.optimisers import PLAIN_STEPS
from neural_tdc.learning.preparation import prepare
from neural_tdc.learning.sampling import IidSampling
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.metrics.evaluators import chain_evaluator
from neural_tdc.networks.bodies import mlp
from neural_tdc.randomness import keys
from neural_tdc.rules.registry import RULES
from neural_tdc.types import StepSizes

F64 = torch.float64


def experience(mdp, runs, table, length=3000, seed=0, dtype=F64):
    streams = simulate_streams(mdp, runs, length, seed, dtype=dtype)
    key = keys(seed, runs, "sampling")
    return Experience(streams, table.to(dtype), torch.arange(runs), key)


def of_runs(seen, runs):
    """Return the experience of some of the runs, by a list of their numbers."""
    return seen._replace(stream_index=seen.stream_index[runs], key=seen.key[runs])


RUNS = 3


def neural(
    rule="tdc", runs=RUNS, optimizers=PLAIN_STEPS, constraint="none", name="garnet-off-policy"
):
    """Return (algorithm, state, experience, evaluator) of a neural population, in float64."""
    mdp = problem(name)
    observation = mdp.observation
    algorithm, state = prepare(
        RULES[rule] if isinstance(rule, str) else rule,
        lambda shape: mlp(shape, 6, (9,)),
        observation,
        runs=runs,
        seed=1,
        optimizers=optimizers,
        constraint=constraint,
    )
    evaluator = chain_evaluator(chain(mdp), observation, algorithm.features, algorithm.rule)
    return algorithm, state, experience(mdp, runs, observation, 60), evaluator


def sizes_of(*bodies):
    """Return step sizes of runs: (body, 4 · body, 3 · body) for the three parts."""
    body = torch.tensor(bodies, dtype=F64)
    return StepSizes(body, 4 * body, 3 * body)


CALM = (0.05, 0.1, 0.02)


def history(setting, sizes, steps=12, every=4, sampling=None, scheduled="general", **options):
    algorithm, state, seen, evaluator = setting
    state = options.pop("state", state)
    return list(
        learn(
            algorithm,
            state,
            seen,
            sizes,
            schedule(scheduled),
            sampling or IidSampling(5),
            evaluator,
            steps=steps,
            measured=measured_steps(steps, every),
            limit=options.pop("limit", divergence_limit(setting[1].parameters)),
            **options,
        )
    )


def same_bits(left, right):
    return all(
        torch.equal(a, b) for a, b in zip(tree_leaves(left), tree_leaves(right), strict=True)
    )


def of_state(state, runs):
    return tree_map(lambda leaf: leaf[runs], state)
