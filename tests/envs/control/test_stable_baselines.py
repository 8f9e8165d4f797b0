"""Policies of Stable-Baselines3, trained for a moment here, act as the package itself lets them."""

import copy

import gymnasium
import numpy as np
import pytest
import torch

from envs.control.actions import actions_of
from envs.control.importance import importance_ratios
from envs.control.problems import control_problem
from envs.control.stable_baselines import stable_baselines_policy
from envs.control.truth import monte_carlo_truth

sb3 = pytest.importorskip("stable_baselines3", reason="the extra sb3 is not installed")

SMALL = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}
OFF_POLICY = {"learning_starts": 20, "buffer_size": 200, **SMALL}
TRAINED = {
    "PPO": ("Pendulum-v1", {"n_steps": 32, "batch_size": 16, **SMALL}),
    "SAC": ("Pendulum-v1", OFF_POLICY),
    "TD3": ("Pendulum-v1", OFF_POLICY),
    "DQN": ("CartPole-v1", OFF_POLICY),
    "A2C": ("CartPole-v1", SMALL),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return {algorithm: (model, its file)}, each trained for some steps."""
    folder = tmp_path_factory.mktemp("models")
    made = {}
    for name, (environment, settings) in TRAINED.items():
        # A copy: the package writes into the settings of a policy.
        model = getattr(sb3, name)("MlpPolicy", environment, **copy.deepcopy(settings))
        model.learn(40)
        model.save(folder / f"{name}.zip")
        made[name] = model, folder / f"{name}.zip"
    return made


def seen(name, rows=50):
    environment = gymnasium.make(TRAINED[name][0])
    return np.stack([environment.reset(seed=row)[0] for row in range(rows)])


def space(name):
    return gymnasium.make(TRAINED[name][0]).action_space


@pytest.mark.parametrize("name", TRAINED)
def test_a_deterministic_policy_takes_the_actions_of_the_package(models, name):
    model, path = models[name]
    observation = seen(name)
    expected, _ = model.predict(observation, deterministic=True)
    by_chance = name not in ("DQN", "TD3")
    given = stable_baselines_policy(path, deterministic=by_chance)(torch.from_numpy(observation))
    if not by_chance:
        with pytest.raises(
            ValueError, match=f"the policy {name} of .* is deterministic in any case"
        ):
            stable_baselines_policy(path, deterministic=True)
    if name in ("DQN", "A2C"):
        assert torch.equal(given.sum(1), torch.ones(50, dtype=torch.float64))
        given = given.argmax(1)
    else:
        expected = np.clip(expected, -2, 2)
        given = given.clamp(-2, 2)
    assert np.allclose(given.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["PPO", "SAC"])
def test_continuous_actions_are_distributed_as_those_of_the_package(models, name):
    model, path = models[name]
    observation = seen(name, 1).repeat(4_000, 0)
    torch.manual_seed(0)
    expected = np.sort(model.predict(observation, deterministic=False)[0].ravel())
    actions = actions_of(name, space(name))
    level = np.random.default_rng(0).random((4_000, 1, 1))
    decide = actions.decisions(stable_baselines_policy(path), level, together=False)
    drawn = np.sort(actions.executed(decide(0, np.arange(4_000), observation)).ravel())
    assert np.abs(drawn - expected).mean() < 0.1
    assert drawn.std() > 0.3


def test_the_density_of_sac_is_the_package_s_own(models):
    model, path = models["SAC"]
    observation = seen("SAC")
    with torch.no_grad():
        torch.manual_seed(0)
        action, expected = model.policy.actor.action_log_prob(torch.from_numpy(observation))
    actions = actions_of("SAC", space("SAC"))
    given = actions.log_densities(stable_baselines_policy(path), observation, 2 * action.numpy())
    # The package's actions are those between -1 and 1.
    assert np.allclose(given, expected.numpy() - np.log(2), atol=1e-3)


def test_ratios_against_another_policy_average_to_1(models):
    actions = actions_of("SAC", space("SAC"))
    problem = control_problem("Pendulum-v1", stable_baselines_policy(models["SAC"][1]), "uniform")
    observation = seen("SAC", 1).repeat(4_000, 0)
    action = np.random.default_rng(0).uniform(-2, 2, (4_000, 1))
    ratio = importance_ratios(actions, problem.target, problem.behaviour, observation, action)
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / np.sqrt(4_000)


@pytest.mark.parametrize("name", ["SAC", "PPO"])
def test_the_truth_is_that_of_a_plain_loop_around_the_package(models, name):
    model, path = models[name]
    problem = control_problem("Pendulum-v1", stable_baselines_policy(path), discount=0.9)
    truth = monte_carlo_truth(problem, 3, 48, seed=0, tolerance=0.05, spacing=40)
    environments = [gymnasium.make("Pendulum-v1") for _ in range(3 * 48)]
    starts = truth.observation.double().repeat_interleave(48, 0)
    for environment, (upward, aside, speed) in zip(environments, starts.tolist(), strict=True):
        environment.reset(seed=0)
        environment.unwrapped.state = np.array([np.arctan2(aside, upward), speed])
    observation, total = starts.float().numpy(), np.zeros(len(environments))
    torch.manual_seed(0)
    for time in range(29):
        action, _ = model.predict(observation, deterministic=False)
        steps = [each.step(a) for each, a in zip(environments, action, strict=True)]
        observation = np.stack([step[0] for step in steps])
        total += 0.9**time * np.array([step[1] for step in steps])
    plain = total.reshape(3, 48)
    error = np.sqrt(truth.standard_error.numpy() ** 2 + plain.var(1, ddof=1) / 48)
    assert (truth.standard_error > 0).all()
    assert (np.abs(truth.value.numpy() - plain.mean(1)) < 4 * error).all()


def test_statistics_normalise_what_the_policy_sees(models, tmp_path):
    from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

    vectors = VecNormalize(DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")]))
    model = sb3.PPO("MlpPolicy", vectors, **copy.deepcopy(TRAINED["PPO"][1]))
    model.learn(64)
    model.save(tmp_path / "ppo.zip")
    vectors.save(tmp_path / "statistics.pkl")
    observation = seen("PPO")
    expected, _ = model.predict(vectors.normalize_obs(observation), deterministic=True)
    policy = stable_baselines_policy(
        tmp_path / "ppo.zip", tmp_path / "statistics.pkl", deterministic=True
    )
    given = policy(torch.from_numpy(observation)).clamp(-2, 2).numpy()
    assert np.allclose(given, expected, atol=1e-5)
    raw = stable_baselines_policy(tmp_path / "ppo.zip", deterministic=True)
    assert not np.allclose(raw(torch.from_numpy(observation)).numpy(), expected, atol=1e-3)


def test_discrete_observations_are_what_the_policy_was_trained_on(tmp_path):
    model = sb3.PPO("MlpPolicy", "FrozenLake-v1", **copy.deepcopy(TRAINED["PPO"][1]))
    model.save(tmp_path / "lake.zip")
    given = stable_baselines_policy(tmp_path / "lake.zip")(torch.eye(16))
    with torch.no_grad():
        expected = model.policy.get_distribution(torch.arange(16)).distribution.probs
    assert torch.allclose(given.probs, expected)


def test_a_policy_of_another_environment_is_refused(models):
    with pytest.raises(ValueError, match=r"trained on observations of shape \(4,\), not \(3,\)"):
        control_problem("Pendulum-v1", stable_baselines_policy(models["A2C"][1]))
    with pytest.raises(ValueError, match=r"trained on observations of shape \(4,\), not \(2,\)"):
        control_problem("MountainCar-v0", stable_baselines_policy(models["DQN"][1]))
