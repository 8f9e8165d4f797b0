"""A population of runs against the same runs alone: experience, updates, resuming, memory."""

import numpy as np
import pytest
import torch

from agents.dqn.evaluation import GreedyActor, evaluate_episodes
from agents.dqn.learner import Learner, make_auxiliary
from agents.dqn.members import DQNMember, population_order
from agents.dqn.objectives import CONTROL_RULES
from agents.dqn.optimizers import make_optimizer
from agents.dqn.population import DQNPopulation
from agents.dqn.population_evaluation import evaluate_population
from agents.dqn.q_network import make_network
from agents.dqn.replay import Replay
from agents.dqn.stacked_learner import MemberRates
from agents.dqn.stacked_replay import StackedReplay
from agents.dqn.training import Training
from envs.games.discrete_control import GymnasiumEnvironments
from tests.agents.dqn import identity_game

SCHEDULE = identity_game.SCHEDULE._replace(steps=400)
CAPACITY, RETURN_STEPS, DISCOUNT = 60, 2, 0.9
MEMBERS = [
    DQNMember(seed, CONTROL_RULES[rule], MemberRates(*rates))
    for seed, rule, rates in (
        (4, "double-q", (2e-3, 5e-3, 1.0)),
        (1, "qrc", (1e-3, 5e-3, 2e-3)),
        (2, "qrc", (2e-3, 5e-3, 1e-2)),
        (1, "tdc", (2e-3, 5e-3, 1e-2)),
        (7, "q", (5e-3, 2e-3, 1.0)),
    )
]
MEMBERS = [MEMBERS[i] for i in population_order(MEMBERS)]


class Endless(identity_game.Identity):
    """Games of random length, so that the runs of a population end theirs at different times."""

    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        return observation, reward, bool(self.np_random.integers(5) == 0), False, info


def network(seed):
    return make_network("mlp", (3,), 3, seed=seed, features=16, hidden=(24,))


def games(count):
    return GymnasiumEnvironments("random lengths", Endless, count)


def replays(runs, **options):
    shared = {"dtype": "float32", "steps": RETURN_STEPS, "discount": DISCOUNT, **options}
    return StackedReplay(runs, CAPACITY, (3,), **shared)


def population(members=MEMBERS, schedule=SCHEDULE, **options):
    count = len(members)
    made = DQNPopulation(
        members, network, games(count), replays(count, **options), schedule, "adam"
    )
    made.begin()
    return made


def alone(member):
    net = network(member.seed)
    auxiliary = make_auxiliary(net) if member.objective.correction else None
    body, head, own = member.rates
    optimizer = make_optimizer("adam", net, body, head, auxiliary=auxiliary, auxiliary_rate=own)
    learner = Learner(net, optimizer, member.objective, auxiliary=auxiliary)
    shared = {"dtype": "float32", "steps": RETURN_STEPS, "discount": DISCOUNT}
    made = Training(learner, games(1), Replay(CAPACITY, 1, (3,), **shared), SCHEDULE, member.seed)
    made.begin()
    return made


def test_every_run_of_a_population_is_the_run_alone():
    together = population()
    assert len(together.parts) == 4
    singles = [alone(member) for member in MEMBERS]
    for until in (70, 130):
        found = together.advance(until)
        for run, single in enumerate(singles):
            expected = single.advance(until)
            assert (found.step, found.updates) == (expected.step, expected.updates)
            assert found.returns[run] == expected.returns
            assert found.lengths[run] == expected.lengths
            assert len(expected.returns) > 10
            torch.testing.assert_close(found.loss[:, run], expected.loss, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.value[:, run], expected.value, rtol=1e-4, atol=1e-5)
            rows = single.replay.transitions()
            assert together.replay.transitions(run).tolist() == rows.tolist()
    # The replays were full and written over.
    assert len(rows) < CAPACITY < together.step
    nets = {
        run: (network, run - runs.start)
        for runs, network in together.networks
        for run in range(runs.start, runs.stop)
    }
    for run, single in enumerate(singles):
        stacked, place = nets[run]
        for name, leaf in single.learner.network.state_dict().items():
            torch.testing.assert_close(stacked.of_run(place)[name], leaf, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("runs", "hidden", "sizes"),
    [(33, 24, [33]), (33, 1500, [16, 17]), (50, 9000, [12, 13, 12, 13])],
)
def test_runs_of_large_networks_learn_in_blocks(runs, hidden, sizes, monkeypatch):
    monkeypatch.setattr(
        "tests.agents.dqn.test_population.network",
        lambda seed: make_network("mlp", (3,), 3, seed=seed, features=16, hidden=(hidden,)),
    )
    members = [MEMBERS[0]._replace(seed=seed) for seed in range(runs)]
    found = [part.stop - part.start for part, _ in population(members).parts]
    assert found == sizes


def test_a_resumed_population_is_the_uninterrupted_one_to_the_bit():
    whole, cut = population(), population()
    whole.advance(50)
    cut.advance(61)
    again = population()
    again.load(cut.state())
    found, expected = again.advance(110), whole.advance(110)
    assert len(found.loss) == 16
    assert torch.equal(found.loss, expected.loss[-16:])
    for (_, one), (_, other) in zip(again.parts, whole.parts, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one._leaves, other._leaves))


def test_a_state_of_another_population_is_refused():
    state = population(MEMBERS[:2]).state()
    with pytest.raises(ValueError, match="another population"):
        population(MEMBERS[:3]).load(state)


def test_members_in_another_order_are_refused():
    with pytest.raises(ValueError, match="must be in its order"):
        population(MEMBERS[::-1])


def test_replays_that_do_not_fit_are_refused_before_they_are_taken():
    with pytest.raises(ValueError, match=r"holding 7 replays of 1,000,000,000,000 frames takes "):
        StackedReplay(7, 10**12, (3,), dtype="float32")
    with pytest.raises(ValueError, match="a replay of 2 frames is too small"):
        StackedReplay(7, 2, (3,), steps=3)


def test_a_replay_gives_the_transitions_of_the_replay_of_each_run():
    """Rows at the edge of the ring, cut and ended episodes, three-step returns, clipped rewards."""
    rng = np.random.default_rng(3)
    shared = {"dtype": "float32", "steps": 3, "discount": 0.8, "reward_limit": 1.0}
    runs, which = 2, np.arange(2)
    together = StackedReplay(runs, 11, (2,), **shared)
    singles = [Replay(11, 1, (2,), **shared) for _ in range(runs)]
    frame = rng.normal(size=(runs, 2)).astype(np.float32)
    together.start(frame)
    for single, own in zip(singles, frame):
        single.start(own[None])
    over, none = np.zeros(runs, dtype=bool), np.zeros(1, dtype=bool)
    for _ in range(40):
        fresh = rng.normal(size=(runs, 2)).astype(np.float32)
        ended = np.flatnonzero(over)
        together.restart(ended, fresh[ended])
        for run in ended:
            zero = np.zeros(1)
            singles[run].append(zero.astype(int), zero, none, none, ~none, fresh[[run]])
        action, reward = rng.integers(3, size=runs), rng.normal(size=runs) * 2
        ends, cut = rng.random((2, runs)) < 0.15
        over = ends | cut
        frame = rng.normal(size=(runs, 2)).astype(np.float32)
        together.append(which, action, reward, ends, cut, frame)
        for run, single in enumerate(singles):
            own = [leaf[[run]] for leaf in (action, reward, ends, cut)]
            single.append(*own, none, frame[[run]])
        for run, single in enumerate(singles):
            rows = single.transitions()
            assert together.transitions(run).tolist() == rows.tolist()
            if len(rows):
                found = together.at(np.tile(rows, (runs, 1)))
                for leaf, expected in zip(found[:5], single.at(rows)[:5]):
                    assert torch.equal(leaf[run], expected)


def test_segments_are_consecutive_transitions_and_the_same_for_a_run_alone():
    rng, length, batch = np.random.default_rng(5), 3, 300
    shared = {"dtype": "float32", "discount": 0.8, "sequence_length": length}
    together, single = StackedReplay(2, 15, (1,), **shared), Replay(15, 1, (1,), **shared)
    together.start(np.zeros((2, 1), dtype=np.float32))
    single.start(np.zeros((1, 1), dtype=np.float32))
    which, none, over = np.arange(2), np.zeros(1, dtype=bool), np.zeros(2, dtype=bool)
    for time in range(1, 40):
        fresh = np.full((2, 1), time, dtype=np.float32)
        ended = np.flatnonzero(over)
        together.restart(ended, fresh[ended])
        if over[1]:
            single.append(np.zeros(1, dtype=int), np.zeros(1), none, none, ~none, fresh[1:])
        ends, cut = rng.random((2, 2)) < 0.15
        over, action, frame = ends | cut, rng.integers(3, size=2), fresh + 0.5
        together.append(which, action, fresh[:, 0], ends, cut, frame)
        single.append(action[1:], fresh[1:, 0], ends[1:], cut[1:], none, frame[1:])
    sources = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    found = together.sample(batch, sources)
    alone = single.sample(batch, torch.Generator().manual_seed(2))
    for name in ("observation", "action", "reward", "discount", "next_observation", "follows"):
        assert torch.equal(getattr(found, name)[1], getattr(alone, name)), name
    follows = alone.follows.view(-1, length)
    assert not follows[:, -1].any()
    assert follows[:, :-1].any()
    assert not follows[:, :-1].all()
    # A frame says when it was shown: what follows begins where its predecessor ended.
    begin, end = (leaf.view(-1, length) for leaf in (alone.observation, alone.next_observation))
    assert torch.equal((begin[:, 1:] == end[:, :-1]), follows[:, :-1])
    assert len(alone.observation.unique()) == len(single.transitions())


def test_a_population_scores_what_each_run_scores_alone():
    members, count, seeds = MEMBERS[:3], 4, [11, 12, 13]
    together = population(members)
    together.advance(60)
    found = evaluate_population(together.networks, games(3 * count), 0.3, seeds, 25)
    for run, seed in enumerate(seeds):
        (own,) = [
            (stacked, run - runs.start)
            for runs, stacked in together.networks
            if runs.start <= run < runs.stop
        ]
        net = network(0)
        net.load_state_dict(own[0].of_run(own[1]))
        expected, _ = evaluate_episodes(GreedyActor(net), games(count), 0.3, seed, 25)
        assert found[run].tolist() == expected
    assert len(set(found.reshape(-1).tolist())) > 2


# --- one device


def test_a_population_waits_for_its_device_only_where_the_networks_act(one_device_fed):
    always = SCHEDULE._replace(epsilon_last=1.0)
    made = population(schedule=always, device="meta")
    with one_device_fed:
        progress = made.advance(70)
    assert progress.updates == len(progress.loss) == (70 - 20) // 3
    leaves = [leaf for _, learner in made.parts for leaf in learner._leaves]
    assert {leaf.device.type for leaf in (progress.loss, progress.value, *leaves)} == {"meta"}
    # Now the networks act, and the host has to know what they chose.
    made.schedule = SCHEDULE._replace(epsilon_first=0.0, epsilon_last=0.0)
    with one_device_fed, pytest.raises(NotImplementedError, match="out of meta tensor"):
        made.advance(80)
    with one_device_fed, pytest.raises(NotImplementedError, match="out of meta tensor"):
        evaluate_population(made.networks, games(len(MEMBERS)), 0.0, range(len(MEMBERS)), 3)


def test_an_update_of_a_population_that_mixes_devices_is_found(one_device_fed):
    made = population(schedule=SCHEDULE._replace(epsilon_last=1.0), device="meta")
    network = made.parts[0][1].network
    network.parameters["body.0.bias"] = torch.zeros_like(
        network.parameters["body.0.bias"], device="cpu"
    )
    with one_device_fed, pytest.raises((AssertionError, RuntimeError), match="cpu"):
        made.advance(70)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_a_population_on_a_gpu_learns_what_it_learns_on_the_cpu():
    always = SCHEDULE._replace(epsilon_last=1.0)
    there, here = (population(schedule=always, device=device) for device in ("cuda", "cpu"))
    found, expected = there.advance(130), here.advance(130)
    assert found.returns == expected.returns
    torch.testing.assert_close(found.loss.cpu(), expected.loss, rtol=1e-3, atol=1e-4)
    for (_, one), (_, other) in zip(there.parts, here.parts, strict=True):
        assert one._graph._replay is not None
        for a, b in zip(one._leaves, other._leaves):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-4)
    again = population(schedule=always)
    again.load(there.state())
    assert again.advance(140).step == 140
