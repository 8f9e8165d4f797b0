import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit

from envs.control.collection import collect, held_out
from envs.control.policies import uniform
from envs.control.problems import ControlProblem, control_problem
from envs.control.recording import record
from envs.control.standardisation import standardisation


class Counting(gymnasium.Env):
    """Observes (steps since the reset, the step that ends the episode); reward 10 + steps."""

    action_space = spaces.Discrete(2, start=5)
    observation_space = spaces.Box(0, 100, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.end = 0, int(self.np_random.integers(1, 7))
        return self._observation(), {}

    def step(self, action):
        assert action in (5, 6)
        self.count += 1
        return self._observation(), 10.0 + self.count, self.count == self.end, False, {}

    def _observation(self):
        return np.array([self.count, self.end], dtype=np.float32)


def counting() -> gymnasium.Env:
    return TimeLimit(Counting(), 4)


def experience(steps: int = 60):
    return collect(control_problem(counting, discount=0.9), 3, steps, seed=7)


def test_leaves_are_float32_with_stream_and_time_in_front():
    transition = experience(steps=17)
    assert transition.observation.shape == transition.next_observation.shape == (3, 17, 2)
    for leaf in (transition.reward, transition.discount, transition.ratio, transition.first):
        assert leaf.shape == (3, 17)
    assert all(leaf.dtype == torch.float32 for leaf in transition)


def test_termination_has_discount_0_and_truncation_the_discount():
    transition = experience()
    count, end = transition.next_observation.unbind(-1)
    terminated, truncated = count == end, (count == 4) & (end > 4)
    assert terminated.any(dim=1).all()
    assert truncated.any(dim=1).all()
    assert ((count == 4) & (end == 4)).any()
    assert (transition.discount[terminated] == 0).all()
    assert (transition.discount[~terminated] == torch.tensor(0.9)).all()


def test_no_transition_crosses_a_reset_and_the_last_observation_is_the_true_one():
    transition = experience()
    before, after = transition.observation, transition.next_observation
    assert (after[..., 0] == before[..., 0] + 1).all()
    assert (after[..., 1] == before[..., 1]).all()
    assert (transition.reward == 10 + after[..., 0]).all()
    ended = ((after[..., 0] == after[..., 1]) | (after[..., 0] == 4))[:, :-1]
    assert (before[:, 1:][ended][:, 0] == 0).all()
    assert (before[:, 1:][~ended] == after[:, :-1][~ended]).all()
    assert (transition.first[:, 1:] == ended).all()
    assert (transition.first[:, 0] == 1).all()


def test_a_stream_depends_neither_on_the_number_of_streams_nor_on_their_length():
    problem = control_problem("MountainCar-v0", behaviour="soft")
    short, long = collect(problem, 1, 300, seed=3), collect(problem, 2, 700, seed=3)
    for one, other in zip(short, long, strict=True):
        assert torch.equal(one[0], other[0, :300])
    assert not torch.equal(long.observation[0], long.observation[1])


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    problem = control_problem("CartPole-v1", target="default", behaviour="soft")
    first, again, other = (collect(problem, 2, 130, seed) for seed in (11, 11, 12))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first.observation, other.observation)


def test_streams_draw_their_actions_independently():
    actions = record(control_problem(counting), 3, 600, 0, "test").actions
    agreement = (actions[:, None] == actions).mean(-1)[np.triu_indices(3, 1)]
    assert (abs(agreement - 0.5) < 0.1).all()
    assert set(actions.flatten()) == {5, 6}


def test_the_held_out_stream_is_another_one():
    problem = control_problem("MountainCar-v0")
    held, stream = held_out(problem, 40, seed=5), collect(problem, 1, 40, seed=5)
    assert held.observation.shape == (40, 2)
    assert held.reward.shape == (40,)
    assert not torch.equal(held.observation, stream.observation[0])


@pytest.mark.parametrize("name", ["MountainCar-v0", "Acrobot-v1"])
def test_ratios_are_target_over_behaviour_for_the_action_taken(name):
    recording = record(control_problem(name, behaviour="soft"), 2, 400, 0, "test")
    transition = recording.transition
    velocity = transition.observation[..., 1 if name == "MountainCar-v0" else 5]
    greedy = torch.from_numpy(recording.actions) == 2 * (velocity >= 0)
    # ε-greedy with ε = 0.1 over ε = 0.5 and three actions.
    expected = torch.where(greedy, (0.9 + 0.1 / 3) / (0.5 + 0.5 / 3), (0.1 / 3) / (0.5 / 3))
    assert torch.allclose(transition.ratio, expected, rtol=1e-6)
    assert greedy.double().mean() == pytest.approx(0.5 + 0.5 / 3, abs=0.06)


def test_ratios_are_1_on_policy():
    assert (experience().ratio == 1).all()


def test_a_target_action_that_the_behaviour_never_takes_is_refused():
    def always_six(observation):
        return torch.tensor([[0.0, 1.0]]).expand(len(observation), 2)

    problem = control_problem(counting, target="uniform", behaviour=always_six)
    with pytest.raises(ValueError, match=r"always_six never takes action 0 at the observation \["):
        collect(problem, 1, 5, seed=0)
    collect(control_problem(counting, target=always_six, behaviour="uniform"), 1, 5, seed=0)


def test_a_policy_that_goes_wrong_later_is_refused_by_name():
    def fading(observation):
        return torch.ones(len(observation), 2) / (2 + (observation[:, :1] > 2).float())

    problem = control_problem(counting, target=fading)
    with pytest.raises(ValueError, match="policy fading returned the row"):
        collect(problem, 3, 60, seed=7)


def test_a_policy_that_writes_into_its_input_leaves_the_experience_alone():
    def rude(observation):
        observation *= 0
        return torch.full((len(observation), 2), 0.5)

    transition = collect(control_problem(counting, target=rude), 2, 30, seed=1)
    assert (transition.observation[..., 1] >= 1).all()


def test_progress_hears_of_every_step():
    on_progress = []
    collect(control_problem(counting), 2, 6, seed=0, progress=on_progress.append)
    assert on_progress == [1, 2, 3, 4, 5, 6]


def test_one_environment_for_all_streams_is_refused():
    only = counting()
    problem = ControlProblem("shared", lambda: only, uniform(2), uniform(2))
    with pytest.raises(ValueError, match="shared must make a new environment"):
        collect(problem, 2, 5, seed=0)


def test_experience_beyond_the_memory_is_refused_before_it_begins():
    with pytest.raises(ValueError, match=r"^experience of 1 × 1,000,.* GB, and cpu has "):
        collect(control_problem(counting), 1, 10**12, seed=0)


def test_a_reward_that_is_not_finite_is_refused():
    class Broken(Counting):
        def step(self, action):
            return *super().step(action)[:1], float("nan"), False, False, {}

    with pytest.raises(ValueError, match="Broken returned an observation or a reward that is not"):
        collect(control_problem(Broken), 1, 3, seed=0)


@pytest.mark.parametrize(("streams", "steps"), [(0, 5), (5, 0)])
def test_no_streams_or_no_steps_are_refused(streams, steps):
    with pytest.raises(ValueError, match=f"streams {streams} and steps {steps}"):
        collect(control_problem(counting), streams, steps, seed=0)


def test_standardisation_gives_mean_0_and_variance_1_and_leaves_constants_alone():
    observation = torch.tensor([[1.0, 5.0, 0.1], [3.0, 5.0, 0.1], [8.0, 5.0, 0.1]])
    mean, scale = standardisation(observation)
    assert torch.allclose(mean, torch.tensor([4.0, 5.0, 0.1]))
    assert torch.allclose(scale, torch.tensor([(26 / 3) ** 0.5, 1.0, 1.0]))


def test_standardisation_keeps_the_observations_shape():
    mean, scale = standardisation(torch.randn(7, 2, 3, dtype=torch.float64))
    assert mean.shape == scale.shape == (2, 3)
    assert mean.dtype == torch.float64
