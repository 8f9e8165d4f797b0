"""Everything an update touches lies on one device, and nothing in it waits for that device.

The real update is run on the device "meta", where every question to the host raises by itself,
inside a mode that raises where two devices meet. On a real device: `test_device_results`.
"""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from agents.action_chain import action_chain_task
from agents.policy_evaluation import chain_task
from agents.task import experience_on
from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from envs.finite.streams import simulate_streams
from neural_tdc.learning.learner import (
    diverged_runs,
    divergence_limit,
    magnitude,
    updates,
    without,
)
from neural_tdc.learning.preparation import prepare
from neural_tdc.learning.sampling import IidSampling, MarkovSampling
from neural_tdc.learning.schedules import schedule
from neural_tdc.metrics.evaluators import Truth, chain_evaluator, sample_evaluator
from neural_tdc.metrics.samples import Sample, in_rows
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Transition
from tests.neural_tdc.learning.device_population import (
    FEATURE,
    NAMES,
    OPTIMIZERS,
    RUNS,
    STATE,
    experience,
    population,
    samplings,
    to,
)


def advance_on(device, name, sampling, mode, constraint="none", count=1, **options):
    """Take updates on a device and return the new population, the learner's questions asked."""
    algorithm, state, sizes = population(name, constraint=constraint, device=device, **options)
    seen = to(experience(), device)
    update = torch.tensor(5, device=device)
    with torch.no_grad(), mode:
        limit = divergence_limit(state.parameters)
        advance = updates(algorithm, schedule("general"), sampling)
        for _ in range(count):
            state, update = advance(state, seen, update, sizes)
        lost = diverged_runs(state.parameters, limit)
        magnitude(without(state.parameters, lost))
    return state, update, lost


@pytest.mark.parametrize("name", NAMES)
def test_an_update_stays_on_its_device_and_asks_the_host_nothing(one_device_single, name):
    kinds = samplings(name) * (1 if len(samplings(name)) > 1 else 2)
    for sampling, constraint, optimizer in zip(
        kinds, ["ball:3", "box:2", "none"], ["sgd", "rmsprop", "adam"]
    ):
        state, update, lost = advance_on(
            "meta", name, sampling, one_device_single, constraint, optimizer=OPTIMIZERS[optimizer]
        )
        leaves = [*tree_leaves(state), update, lost]
        assert {leaf.device.type for leaf in leaves} == {"meta"}


@pytest.mark.parametrize("psi", ["random", "fourier", "observation", "snapshot", "present"])
def test_every_kind_of_psi_stays_on_its_device(one_device, psi):
    rule = RULES["generalized"].with_settings(psi=psi, psi_width=7)
    state, *_ = advance_on("meta", rule, IidSampling(3), one_device)
    assert {leaf.device.type for leaf in tree_leaves(state)} == {"meta"}


@pytest.mark.parametrize("name", ["tdc", "semi_gradient+lstd", "nonlinear-tdc"])
def test_given_features_stay_on_their_device(one_device, name):
    state, *_ = advance_on("meta", name, MarkovSampling(3), one_device, body=None)
    assert {leaf.device.type for leaf in tree_leaves(state)} == {"meta"}


class Shifted(torch.nn.Module):
    """Add a vector that is not learned."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.ones(FEATURE))

    def forward(self, feature):
        return feature + self.shift


def test_buffers_of_a_body_lie_on_the_device_with_it(one_device):
    def with_buffer(shape, *_):
        return torch.nn.Sequential(torch.nn.Linear(*shape, FEATURE), Shifted())

    algorithm, state, sizes = population("tdc", body=with_buffer, device="meta")
    seen, update = to(experience(), "meta"), torch.tensor(5, device="meta")

    def take_an_update(algorithm):
        with torch.no_grad(), one_device:
            advance = updates(algorithm, schedule("general"), IidSampling(3))
            return advance(state, seen, update, sizes)[0]

    assert {leaf.device.type for leaf in tree_leaves(take_an_update(algorithm))} == {"meta"}
    on_host = torch.nn.Sequential(torch.nn.Linear(STATE, FEATURE), Shifted())
    with pytest.raises(AssertionError, match="cpu and meta"):
        take_an_update(algorithm._replace(features=feature_map(on_host)))


def test_an_evaluator_on_samples_stays_on_its_device(one_device_at_rest):
    algorithm, state, _ = population("tdc")
    seen = experience(table=False).transitions
    held_out = Transition(*(leaf.flatten(0, 1) for leaf in seen))
    weighting = torch.full((4,), 0.25, dtype=torch.float64)
    truth = Truth(held_out.observation[:4], weighting, 3 * weighting, 0.01)
    truth = Truth(*to(tuple(truth), "meta"))
    sample = Sample(*to(tuple(in_rows(held_out)), "meta"))
    evaluator = sample_evaluator(sample, truth, algorithm.features, algorithm.rule)
    parameters = tree_map(lambda leaf: leaf.double().to("meta"), state.parameters)
    with torch.no_grad(), one_device_at_rest:
        values = evaluator(parameters)
    assert {value.device.type for value in values.values()} == {"meta"}
    assert {value.shape for value in values.values()} == {(RUNS,)}


def test_an_evaluator_on_a_chain_stays_on_its_device(one_device_at_rest):
    mdp = problem("boyan")
    algorithm, state = prepare(RULES["tdc"], None, mdp.features, runs=RUNS, seed=0)
    exact = chain(mdp)
    for table in ("transition", "reward", "weighting"):
        # Its own checks ask for numbers.
        object.__setattr__(exact, table, getattr(exact, table).to("meta"))
    evaluator = chain_evaluator(exact, mdp.features.to("meta"), algorithm.features, algorithm.rule)
    parameters = tree_map(lambda leaf: leaf.double().to("meta"), state.parameters)
    with torch.no_grad(), one_device_at_rest:
        values = evaluator(parameters)
    assert {value.device.type for value in values.values()} == {"meta"}
    assert {value.shape for value in values.values()} == {(RUNS,)}


def test_an_evaluator_brings_parameters_to_where_its_data_are(one_device_at_rest):
    algorithm, state, _ = population("tdc")
    held_out = Transition(*(leaf.flatten(0, 1) for leaf in experience(table=False).transitions))
    sample = Sample(*to(tuple(in_rows(held_out)), "meta"))
    evaluator = sample_evaluator(sample, None, algorithm.features, algorithm.rule)
    parameters = tree_map(lambda leaf: leaf.double(), state.parameters)
    values = evaluator(parameters)
    assert {value.device.type for value in values.values()} == {"meta"}


@pytest.mark.parametrize("make", [chain_task, action_chain_task])
def test_a_task_of_a_chain_is_simulated_on_the_cpu_and_lies_on_its_device(make):
    options = {"given": False, "runs": 3, "transitions": 5, "seed": 0}
    task = make(problem("boyan"), **options)
    moved = experience_on(task.experience, torch.device("meta"))
    leaves = [leaf for leaf in tree_leaves(moved) if isinstance(leaf, torch.Tensor)]
    assert {leaf.device.type for leaf in leaves} == {"meta"}
    assert len(leaves) == len(tree_leaves(task.experience)) - sum(
        not isinstance(leaf, torch.Tensor) for leaf in tree_leaves(task.experience)
    )
    streams = simulate_streams(problem("boyan"), 3, 5, 0, "meta")
    assert {leaf.device.type for leaf in tree_leaves(streams)} == {"meta"}


# --- that this test can fail


class Tampered(Rule):
    """TD with one operation too many."""

    name = "tampered"

    def __init__(self, tamper):
        self.tamper = tamper

    def directions(self, features, parameters, batch, state):
        directions = RULES["td"].directions(features, parameters, batch)
        return directions._replace(head=self.tamper(directions.head))


TAMPERS = {
    "a sum with a CPU tensor": lambda head: head + torch.ones(FEATURE),
    "a product with a CPU matrix": lambda head: torch.eye(FEATURE) @ head,
    "a CPU index": lambda head: head[torch.arange(FEATURE)],
    "a number asked for": lambda head: head * head.sum().item(),
    "a decision": lambda head: head if head.sum() > 0 else -head,
    "a vector brought from the host": lambda head: head + torch.ones(FEATURE).to(head.device),
    "a list brought from the host": lambda head: head + torch.tensor([1.0] * FEATURE).to(head),
    "a system whose matrix is checked": lambda head: torch.linalg.solve(
        torch.eye(FEATURE, device=head.device), head
    ),
    "a decomposition": lambda head: (
        head * torch.linalg.eigvalsh(torch.eye(FEATURE, device=head.device))
    ),
    "numbers of the host": lambda head: head + torch.tensor([1.0] * FEATURE, device=head.device),
    "numbers like a tensor": lambda head: head + head.new_tensor([1.0] * FEATURE),
    "a number of the host": lambda head: head * torch.tensor(2.0).to(head.device),
    "an index of the host": lambda head: head[[*range(FEATURE)]],
    "a pseudoinverse": lambda head: torch.linalg.pinv(head[None])[:, 0],
    "an inverse that is checked": lambda head: (
        torch.linalg.inv(torch.eye(FEATURE, device=head.device)) @ head
    ),
    "draws that are checked": lambda head: (
        head * torch.multinomial(torch.ones(FEATURE, device=head.device), FEATURE)
    ),
    "double precision": lambda head: head.double().float(),
    "a mask": lambda head: torch.zeros_like(head).index_put((head > 0,), head[head > 0]),
}


@pytest.mark.parametrize("tamper", TAMPERS.values(), ids=TAMPERS.keys())
def test_an_update_that_mixes_devices_or_waits_is_found(one_device_single, tamper):
    with pytest.raises((AssertionError, RuntimeError, NotImplementedError)):
        advance_on("meta", Tampered(tamper), IidSampling(3), one_device_single)


def test_the_same_update_untampered_passes_and_a_chunk_of_three_too(one_device_single):
    rule = Tampered(lambda head: 1.0 * head)
    advance_on("meta", rule, IidSampling(3), one_device_single, count=3)
