"""Policies from where they are made: files and functions, in environments, chains and logs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from envs.control.collection import collect
from experiments.evaluate_policy.parts.plan import evaluation_plan
from experiments.evaluate_policy.parts.policies import given_policy, policy_files, policy_maker
from experiments.evaluate_policy.settings.evaluation_settings import read_evaluation_settings
from experiments.runs.command_line.checks import UsageError
from experiments.train_dqn import train as dqn_train
from experiments.train_dqn.__main__ import train_dqn
from experiments.train_dqn.policy import load_policy
from neural_tdc.action_values.saved import imported

OWN = """
import torch
from torch import nn

class Leaning(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, observation):
        return self.dropout(self.layer(observation)).softmax(1)

def from_state_dict():
    module = Leaning()
    module.load_state_dict(torch.load("state.pt", weights_only=True))
    return module

class Coin:
    def sample(self, observation, generator):
        return torch.randint(2, (len(observation),), generator=generator)

coin = Coin()
"""
TINY = "--rule td --runs 2 --steps 5"


@pytest.fixture
def leaning(tmp_path, monkeypatch):
    """Write a module of policies, a state dict and a TorchScript; return the network itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    module = __import__(name).Leaning()
    torch.save(module.state_dict(), "state.pt")
    torch.jit.trace(module.eval(), torch.zeros(3, 4)).save("traced.pt")
    return name, module


def problem(line):
    return evaluation_plan(read_evaluation_settings(f"{line} {TINY}".split())).problem


def test_a_network_comes_from_a_state_dict_in_eval_mode(leaning):
    name, module = leaning
    made = problem(f"--problem CartPole-v1 --policy {name}:from_state_dict")
    (note,) = made.notes
    assert "had a network in training mode (Dropout): it was put into eval mode" in note
    observation = torch.randn(5, 4)
    assert torch.equal(made.target(observation), module(observation))


def test_a_torchscript_file_is_a_policy(leaning):
    _, module = leaning
    made = problem("--problem CartPole-v1 --policy traced.pt")
    assert made.notes == ()
    observation = torch.randn(5, 4)
    assert torch.allclose(made.target(observation), module(observation))


@pytest.mark.parametrize("maker", ["Coin", "coin"])
def test_an_object_that_samples_comes_by_its_class_or_itself(leaning, maker):
    name, _ = leaning
    made = problem(f"--problem CartPole-v1 --policy {name}:{maker}")
    assert collect(made, 1, 200, 0).discount.min() == 0


@pytest.mark.parametrize("value", ["traced.pt", "OWN:from_state_dict"])
def test_values_of_actions_find_the_policy_from_another_folder(leaning, monkeypatch, value):
    name, module = leaning
    address, keywords = policy_maker(value.replace("OWN", name))
    (Path.cwd() / "elsewhere").mkdir()
    if value == "traced.pt":
        monkeypatch.chdir("elsewhere")
    made = imported("policy", address)(**keywords).eval()
    observation = torch.randn(5, 4)
    assert torch.allclose(made(observation), module(observation))


def test_a_function_of_observations_is_its_own_address(leaning):
    name, _ = leaning
    assert policy_maker(f"{name}:coin") == (f"{name}:coin", None)


def log(folder):
    observation = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    np.savez(
        folder / "log.npz",
        observation=observation,
        action=np.arange(30) % 2,
        reward=np.ones(30),
        terminated=np.zeros(30, dtype=bool),
        truncated=np.zeros(30, dtype=bool),
        behaviour_probability=np.full(30, 0.5),
    )
    return torch.from_numpy(observation)


def test_a_checkpoint_of_dqn_is_a_policy_of_environments_and_of_logs(
    run_program, tmp_path, monkeypatch
):
    flags = "--learning-starts 60 --evaluation-episodes 1 --replay-capacity 300 --batch 16"
    monkeypatch.setattr(dqn_train, "run_figure", lambda path, *_: path.write_bytes(b"figure"))
    line = f"--problem CartPole-v1 --steps 100 {flags} --hidden 8 --features 6 --out run"
    done = run_program(train_dqn, line)
    assert done.status == 0, done.error
    path = "run/checkpoint.pt"
    trained = load_policy(path)
    acting = problem(f"--problem CartPole-v1 --behaviour {path}")
    observation = torch.randn(6, 4)
    assert torch.equal(acting.behaviour(observation), trained(observation))
    both = collect(acting, 1, 60, 0)
    greedy = trained(both.observation[0]).argmax(1)
    target = acting.target(both.observation[0])
    # ε = 0.05: the greedy action has the probability 0.975.
    expected = target.gather(1, greedy[:, None])[:, 0] / 0.975
    taken = torch.isclose(both.ratio[0], expected, rtol=1e-4)
    assert taken.float().mean() > 0.8
    seen = log(tmp_path)
    logged = problem(f"--data log.npz --policy {path}")
    chance = trained(seen)[torch.arange(30), torch.arange(30) % 2]
    assert torch.allclose(logged.transition.ratio[0], 2 * chance[:29].double())


def test_a_policy_of_stable_baselines_is_one_of_logs_too(tmp_path, monkeypatch):
    sb3 = pytest.importorskip("stable_baselines3", reason="the extra sb3 is not installed")
    monkeypatch.chdir(tmp_path)
    settings = {"n_steps": 8, "batch_size": 8, "seed": 0, "device": "cpu"}
    sb3.PPO("MlpPolicy", "CartPole-v1", **settings).save("ppo.zip")
    seen = log(tmp_path)
    policy = given_policy("sb3:ppo.zip", "--policy")
    chance = policy(seen).probs[torch.arange(30), torch.arange(30) % 2]
    logged = problem("--data log.npz --policy sb3:ppo.zip")
    assert torch.allclose(logged.transition.ratio[0], 2 * chance[:29].double())
    sure = given_policy("sb3:ppo.zip,deterministic", "--policy")(seen)
    assert torch.equal(sure.argmax(1), policy(seen).probs.argmax(1))


def test_a_network_is_a_policy_of_a_chain(leaning, tmp_path):
    class Constant(nn.Module):
        def forward(self, observation):
            return torch.tensor([[0.2, 0.8]]).expand(len(observation), 2)

    torch.jit.script(Constant()).save("constant.pt")
    made = problem("--problem baird --policy constant.pt --features given")
    assert torch.allclose(made.target, torch.tensor([0.2, 0.8], dtype=torch.float64))


@pytest.mark.parametrize("flag", ["policy", "behaviour"])
def test_a_run_is_not_resumed_with_another_policy_of_the_same_name(evaluate, flag):
    def save(chance):
        class Constant(nn.Module):
            def __init__(self):
                super().__init__()
                self.chances = nn.Parameter(torch.tensor([chance, 1 - chance]))

            def forward(self, observation):
                return self.chances.expand(len(observation), 2)

        torch.jit.script(Constant()).save("constant.pt")

    line = f"--problem baird --{flag} constant.pt --features given --compile off {TINY} --out run"
    save(0.2)
    assert evaluate(line).status == 0
    assert evaluate(f"{line} --resume").status == 0
    save(0.3)
    outcome = evaluate(f"{line} --resume")
    assert outcome.status == 2
    assert outcome.error == (
        f"error: --{flag} constant.pt is not what the run in run was started with: its contents "
        "have changed\n"
    )


def test_a_zip_file_alone_is_told_how_it_is_given():
    with pytest.raises(UsageError, match=r"--policy a.zip: a file of .* is given as sb3:a.zip"):
        given_policy("a.zip", "--policy")


def test_the_files_of_a_policy_are_its_zip_and_its_statistics():
    assert policy_files("sb3:a.zip,b.pkl,deterministic") == [Path("a.zip"), Path("b.pkl")]
    assert policy_files("a.pt") == [Path("a.pt")]
    assert policy_files("soft") == policy_files("own:policy") == policy_files(None) == []
