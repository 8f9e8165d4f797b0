"""Acting and learning together: the ratio of updates, the scores, resuming to the bit."""

import pytest
import torch
from torch.utils._pytree import tree_map

from agents.dqn.objectives import QObjective
from agents.dqn.training import TrainingSchedule
from envs.games.discrete_control import GymnasiumEnvironments, control
from tests.agents.dqn.identity_game import SCHEDULE, Identity, training


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_updates_keep_their_ratio_to_agent_steps_whatever_the_number_of_games(count):
    learning = training(GymnasiumEnvironments("identity", Identity, count))
    progress = learning.advance(301)
    assert 301 <= progress.step < 301 + count
    # The updates that the steps before the last ask for.
    assert abs(progress.updates - (progress.step - 20) // 3) <= -(-count // 3)
    assert len(progress.loss) == len(progress.value) == progress.updates
    # Seven agent steps a game: the steps that only reset are none.
    assert set(progress.lengths) == {7}
    assert len(progress.returns) == len(progress.lengths)
    assert abs(7 * len(progress.returns) - progress.step) <= 8 * count


def test_the_target_follows_at_its_period_and_not_between():
    learning = training(GymnasiumEnvironments("identity", Identity, 1))
    followed = []
    sync_target = learning.learner.sync_target
    learning.learner.sync_target = lambda: (followed.append(learning.updates), sync_target())
    learning.advance(200)
    assert followed == [10, 20, 30, 40, 50]


def test_rates_fall_and_keep_their_ratio():
    learning = training(GymnasiumEnvironments("identity", Identity, 1), body=0.002, head=0.01)
    learning.advance(600)
    rates = {g["label"]: g["lr"] for g in learning.learner.optimizer.param_groups}
    assert rates["head"] == pytest.approx(5 * rates["body"])
    # The last update was asked for by one of the last steps.
    assert rates["body"] == pytest.approx(0.002 * 0.5, rel=0.01)


def bits(learning):
    return [p.detach().clone() for p in learning.learner.network.parameters()]


def test_the_same_seed_gives_the_same_run_to_the_bit_and_another_does_not():
    runs = [training(control("CartPole-v1", 2), seed=seed) for seed in (3, 3, 4)]
    ends = []
    for learning in runs:
        progress = learning.advance(300)
        ends.append((progress.returns, progress.loss, bits(learning)))
    assert ends[0][0] == ends[1][0]
    assert torch.equal(ends[0][1], ends[1][1])
    assert all(torch.equal(a, b) for a, b in zip(ends[0][2], ends[1][2]))
    assert not torch.equal(ends[0][2][0], ends[2][2][0])


@pytest.mark.parametrize("remember", [False, True])
def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(remember):
    whole = training(control("CartPole-v1", 2), remember=remember)
    first, second = whole.advance(250), whole.advance(500)
    stopped = training(control("CartPole-v1", 2), remember=remember)
    stopped.advance(250)
    state = stopped.state(with_replay=True)
    state = tree_map(lambda x: x.clone() if isinstance(x, torch.Tensor) else x, state)
    del stopped
    resumed = training(control("CartPole-v1", 2), remember=remember)
    assert resumed.load(state) == []
    again = resumed.advance(500)
    assert again.step == second.step
    assert again.returns == second.returns
    assert again.lengths == second.lengths
    assert torch.equal(again.loss, second.loss)
    assert all(torch.equal(a, b) for a, b in zip(bits(whole), bits(resumed)))
    assert first.step < second.step
    if remember:
        # What a value was computed with decides its last bits: what is known is restored too.
        one, other = (each.learner.target_values.state() for each in (whole, resumed))
        assert torch.equal(one["number"], other["number"])
        assert torch.equal(one["values"], other["values"])
        assert len(one["number"])


def test_target_values_are_forgotten_with_the_target_they_are_of():
    learning = training(control("CartPole-v1", 2), remember=True)
    learning.advance(250)
    known = learning.learner.target_values
    assert len(known.state()["number"])
    learning.learner.load(learning.learner.state())
    assert not len(known.state()["number"])
    learning.advance(300)
    assert len(known.state()["number"])
    learning.learner.sync_target()
    assert not len(known.state()["number"])


def test_remembered_target_values_change_nothing_but_rounding():
    plain, remembering = (
        training(control("CartPole-v1", 2), capacity=60, remember=remember)
        for remember in (False, True)
    )
    losses = [each.advance(400).loss for each in (plain, remembering)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-5)
    for one, other in zip(bits(plain), bits(remembering)):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_without_the_replay_games_begin_anew_and_it_is_refilled_and_both_are_said():
    stopped = training(control("CartPole-v1", 2))
    stopped.advance(250)
    state = stopped.state(with_replay=False)
    assert state["replay"] is None
    resumed = training(control("CartPole-v1", 2))
    notes = resumed.load(state)
    assert ["begin anew" in notes[0], "refill" in notes[1]] == [True, True]
    assert (resumed.step, resumed.updates) == (stopped.step, stopped.updates)
    assert len(resumed.replay) >= SCHEDULE.learning_starts
    assert torch.isfinite(resumed.advance(300).loss).all()


def test_learning_goes_on_while_the_environments_step():
    environments = GymnasiumEnvironments("identity", Identity, 1)
    order = []
    learning = training(environments)
    send, receive, update = environments.send, environments.receive, learning.learner.update
    environments.send = lambda action: (order.append("send"), send(action))[1]
    environments.receive = lambda: (order.append("receive"), receive())[1]
    learning.learner.update = lambda batch: (order.append("update"), update(batch))[1]
    learning.advance(40)
    places = [place for place, what in enumerate(order) if what == "update"]
    assert len(places) == 6
    assert all(order[place - 1 : place + 2] == ["send", "update", "receive"] for place in places)


def test_squared_loss_and_plain_q_learning_run_too():
    learning = training(GymnasiumEnvironments("identity", Identity, 1))
    learning.learner.objective = QObjective(False, "squared")
    assert torch.isfinite(learning.advance(60).loss).all()


@pytest.mark.parametrize(
    ("rows", "device", "kept"),
    [(1000, "cpu", 1000), (3200, "cpu", 3200), (3201, "cpu", 0), (1000, "cuda", 0)],
)
def test_target_values_are_kept_on_the_cpu_where_rows_are_drawn_again(rows, device, kept):
    # 32 rows for each of the 25 updates between two copies: 800 draws.
    schedule = TrainingSchedule(batch=32, update_every=4, target_period=100)
    assert schedule.target_cache_rows(rows, torch.device(device)) == kept


def test_a_whole_training_waits_for_the_device_only_where_the_network_acts(one_device_fed):
    always = SCHEDULE._replace(epsilon_last=1.0)
    games = GymnasiumEnvironments("identity", Identity, 2)
    learning = training(games, schedule=always, device="meta")
    with one_device_fed:
        progress = learning.advance(70)
    assert progress.updates == len(progress.loss) == (70 - 20) // 3
    assert progress.loss.device.type == "meta"
    # Now the network acts, and the host has to know what it chose.
    learning.schedule = SCHEDULE._replace(epsilon_first=0.0, epsilon_last=0.0)
    with one_device_fed, pytest.raises((NotImplementedError, RuntimeError)):
        learning.advance(80)
