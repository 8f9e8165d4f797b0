"""The examples of docs/split-rates.md, run as they stand, with the ratio that they promise."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from neural_tdc.split_rates import effective_rates

PAGE = Path(__file__).parents[3] / "docs" / "split-rates.md"
BLOCKS = re.findall(r"## ([^\n]+)\n|```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
RECIPES: list[tuple[str, str]] = []
for heading, block in BLOCKS:
    if heading:
        section = heading
    else:
        RECIPES.append((section, block))
# What a recipe is for; it is skipped where that is not installed.
PEERS = ("stable_baselines3", "skrl", "transformers", "accelerate")


def run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    for peer in PEERS:
        needed = peer in block or (peer == "accelerate" and "transformers" in block)
        if needed and importlib.util.find_spec(peer) is None:
            pytest.skip(f"{peer} is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "recipe"}
    exec(compile(block, PAGE.name, "exec"), names)
    return names


@pytest.mark.parametrize("section", ["Groups", "Schedules", "Muon for the body"])
def test_an_example_of_the_guide_runs_and_prints(section, tmp_path, monkeypatch, capsys):
    blocks = [block for heading, block in RECIPES if heading == section]
    assert blocks
    for block in blocks:
        run(block, tmp_path, monkeypatch)
        assert capsys.readouterr().out


def recipe(section: str) -> str:
    (block,) = [block for heading, block in RECIPES if heading == section]
    return block


def split(optimizer: torch.optim.Optimizer) -> float:
    rates = effective_rates(optimizer)
    assert rates.keys() == {"body", "head"}
    return rates["head"] / rates["body"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stable_baselines_learns_and_loads_at_the_ratio(tmp_path, monkeypatch):
    names = run(recipe("Stable-Baselines3"), tmp_path, monkeypatch)
    model, optimizer = names["model"], names["optimizer"]
    assert split(optimizer) == pytest.approx(10)
    assert effective_rates(optimizer)["body"] < 0.9e-3
    assert all(optimizer.state[p] for group in optimizer.param_groups for p in group["params"])
    model.save("model.zip")
    with pytest.raises(ValueError, match="different number of parameter groups"):
        type(model).load("model.zip")
    other = run(recipe("Stable-Baselines3"), tmp_path, monkeypatch)["model"]
    other.set_parameters("model.zip")
    for ours, theirs in zip(model.policy.parameters(), other.policy.parameters()):
        assert torch.equal(ours, theirs)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_agent_of_skrl_learns_at_the_ratio(tmp_path, monkeypatch):
    names = run(recipe("skrl"), tmp_path, monkeypatch)
    agent, optimizer = names["agent"], names["optimizer"]
    agent.init()
    for _ in range(20):
        agent.memory.add_samples(
            observations=torch.randn(1, 4), next_observations=torch.randn(1, 4),
            states=None, next_states=None, actions=torch.ones(1, 1).long(),
            rewards=torch.ones(1, 1), terminated=torch.zeros(1, 1).bool(),
            truncated=torch.zeros(1, 1).bool(),
        )  # fmt: skip
    for timestep in range(300):
        agent.update(timestep=timestep, timesteps=300)
    assert split(optimizer) == pytest.approx(10)
    assert effective_rates(optimizer)["body"] < 0.9e-3
    assert all(optimizer.state[p] for group in optimizer.param_groups for p in group["params"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_trainer_of_transformers_learns_at_the_ratio(tmp_path, monkeypatch):
    names = run(recipe("Trainer of transformers"), tmp_path, monkeypatch)
    optimizer = names["optimizer"]
    assert split(optimizer) == pytest.approx(10)
    assert effective_rates(optimizer)["body"] < 0.9e-4
    assert all(optimizer.state[p] for group in optimizer.param_groups for p in group["params"])
