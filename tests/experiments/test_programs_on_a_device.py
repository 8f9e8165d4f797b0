"""Whole programs on a pretended device: nothing mixes it with the CPU, and the numbers are its.

Those of policy evaluation: `evaluate_policy/learning/test_on_a_device.py`.
"""

import json

import pytest

from experiments.compare_dqn import __main__ as compare_dqn
from experiments.compare_dqn import grid_run, stage
from experiments.evaluate_policy.parts import plan
from experiments.landscape import __main__ as landscape
from experiments.runs.folder.folder_contents import METRICS_FILE, SCORES
from experiments.sweep import __main__ as sweep
from experiments.sweep.running import shard
from experiments.train_dqn import __main__ as train_dqn
from experiments.train_dqn import train
from experiments.train_supervised import __main__ as train_supervised
from experiments.train_supervised import build
from tests.experiments.landscape.test_landscape_program import surfaces
from tests.experiments.sweep.small_study import shards_of
from tests.pretended_device import DEVICE, PretendedDevice, ProductsThere

SUPERVISED = (
    "--steps 4 --measure-every 2 --hidden 4 --batch 3 --compile off --curvature-every 2 "
    "--curvature-products 2 --curvature-samples 9 --response-samples 9"
)
ARMS = ("split", "limit", "automatic-momentum")
DQN = (
    "--problem CartPole-v1 --steps 40 --update-every 2 --learning-starts 20 --epsilon-steps 20 "
    "--evaluate-every 40 --evaluation-episodes 2 --evaluation-longest 5 --replay-capacity 30 "
    "--batch 3 --hidden 5 --features 4 --target-period 6"
)


@pytest.fixture
def on_both(run_program, tmp_path, no_figures, monkeypatch):
    """Return a function that runs a line on the CPU and on a pretended GPU: the two folders.

    modules: those that ask for the device
    exact:   whether the program also solves a chain or measures, which is done on the CPU
    """
    monkeypatch.setattr(grid_run, "grid_figure", lambda *_: None)

    def run(program, line, *modules, exact=False):
        outcome = run_program(program, f"{line} --out here")
        assert outcome.status == 0, outcome.error
        products = ProductsThere(alone=not exact)
        with monkeypatch.context() as patch, PretendedDevice(), products:
            # A worker keeps the problem that it made ready.
            patch.setattr(shard, "_ready", {})
            for module in modules:
                patch.setattr(module, "resolve_device", lambda *_, **__: DEVICE)
            outcome = run_program(program, f"{line} --out there")
        assert outcome.status == 0, outcome.error
        assert products.found > 0
        assert (products.elsewhere > 0) == exact
        return tmp_path / "here", tmp_path / "there"

    return run


def same_metrics(here, there):
    assert (here / METRICS_FILE).read_bytes() == (there / METRICS_FILE).read_bytes()


@pytest.mark.parametrize("task", ["synthetic", "mnist --data ."])
def test_supervised_arms_learn_answer_and_are_measured_there(on_both, tmp_path, idx_files, task):
    idx_files(tmp_path)
    rates = "--body-step 0.001 --head-step 0.01"
    line = f"--task {task} --runs 2 --arm {' '.join(ARMS)} {rates} {SUPERVISED}"
    here, there = on_both(train_supervised.train_supervised, line, build)
    for arm in ARMS:
        same_metrics(here / arm, there / arm)


@pytest.mark.parametrize("place", ["", "--arm limit --measure-on host"])
def test_a_landscape_is_evaluated_there(on_both, place):
    line = f"--runs 1 --at 0 4 --grid 3 {SUPERVISED}".replace("-every 2 --c", "-every 1 --c")
    here, there = on_both(landscape.draw_landscape, f"{line} {place}", build, exact=bool(place))
    same_metrics(here, there)
    for one, other in zip(surfaces(here).values(), surfaces(there).values(), strict=True):
        assert all(one[name].equal(other[name]) for name in one)


def test_a_study_is_run_there(on_both):
    line = "--problem boyan --width 5 --rule tdc --body-steps 2^-7 --ratios 1 8"
    sizes = "--steps 7 --measure-every 3 --runs 2 --fresh-runs 2 --workers 1 --memory 2"
    here, there = on_both(sweep.sweep, f"{line} {sizes}", plan, exact=True)
    assert shards_of(here) == shards_of(there)


def test_a_network_of_action_values_is_trained_there(on_both):
    same_metrics(*on_both(train_dqn.train_dqn, f"{DQN} --measure-every 20", train))


def test_a_grid_of_them_is_compared_there(on_both):
    grid = "--grid --arm split --rules double-q qrc --body-steps 1e-3 --ratios 4 --random-games 1"
    line = f"{DQN} {grid} --selection-seeds 1 --seeds 1"
    folders = on_both(compare_dqn.compare_dqn, line, grid_run, stage)
    for name in ("selection", "report"):
        one, other = (
            json.loads((folder / "CartPole-v1" / name / SCORES).read_text()) for folder in folders
        )
        assert one["runs"] == other["runs"]
        assert one["evaluations"] == other["evaluations"]
