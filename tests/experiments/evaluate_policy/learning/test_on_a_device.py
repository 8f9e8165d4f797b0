"""The program's methods and its search learn on --device: nothing on the CPU, and its values."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from experiments.evaluate_policy.learning import method_run, search
from experiments.evaluate_policy.parts import plan
from experiments.evaluate_policy.results import figures
from experiments.runs.folder.folder_contents import METRICS_FILE, SUMMARY, VALUE
from neural_tdc.baselines.prefixes import prefix_measurements
from neural_tdc.tensor_file import load_tensors
from neural_tdc.value_file import FORMAT
from tests.pretended_device import DEVICE, PretendedDevice, ProductsThere

SMALL = {"width": 5, "folds": 2}


@pytest.fixture
def on_both(evaluate, tmp_path, monkeypatch):
    """Return a function that runs a line on the CPU and on a pretended GPU: the two folders."""
    monkeypatch.setattr(figures, "choice_figure", lambda *_: None)
    monkeypatch.setattr(search, "best_value", partial(search.best_value, **SMALL))
    monkeypatch.setattr(search, "RESAMPLES", 3)

    def run(line):
        outcome = evaluate(f"{line} --out here")
        assert outcome.status == 0, outcome.error
        products = ProductsThere()

        def watched(learn):
            def learned(*args, **options):
                with products:
                    found = learn(*args, **options)
                    # A generator works when it is asked.
                    return found if hasattr(found, "value") else [*found]

            return learned

        with monkeypatch.context() as patch, PretendedDevice():
            patch.setattr(plan, "resolve_device", lambda *_, **__: DEVICE)
            patch.setattr(method_run, "prefix_measurements", watched(prefix_measurements))
            patch.setattr(search, "best_value", watched(search.best_value))
            outcome = evaluate(f"{line} --out there")
        assert outcome.status == 0, outcome.error
        assert "on meta" in outcome.out
        assert products.found > 0
        return tmp_path / "here", tmp_path / "there"

    return run


def same(here, there):
    """Assert that two runs left the same measurements and the same value functions."""
    assert (here / METRICS_FILE).read_text() == (there / METRICS_FILE).read_text()
    saved = (load_tensors(folder / VALUE, FORMAT, "value function") for folder in (here, there))
    for one, other in zip(*map(tree_leaves, saved), strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_a_table_of_rules_and_methods_is_learned_there(on_both):
    names = "td", "fitted", "lstd-random"
    line = f"--problem boyan --rule {' '.join(names)} --random-features 5 --updates 2 --width 3"
    sizes = "--steps 40 --measure-every 20 --prefixes 1 --runs 2 --compile off"
    here, there = on_both(f"{line} {sizes}")
    for name in names:
        same(here / name, there / name)


def test_the_search_learns_there_and_shows_the_same_choice(on_both, write_clock):
    write_clock(episodes=30)
    here, there = on_both("--data clock.npz --gamma 0.9 --updates 1 --resample episodes")
    same(here, there)
    one, other = (json.loads((folder / SUMMARY).read_text()) for folder in (here, there))
    for name in ("chosen", "ranking", "value", "metrics", "control"):
        assert one[name] == other[name]


def test_pictures_are_learned_from_as_bytes_there(on_both, tmp_path):
    draws = np.random.default_rng(0)
    np.savez(
        tmp_path / "pictures.npz",
        observation=draws.integers(0, 256, (60, 1, 2, 3)).astype(np.uint8),
        reward=draws.normal(size=60),
        terminated=np.arange(60) % 5 == 4,
        truncated=np.zeros(60, bool),
    )
    line = "--data pictures.npz --rule lstd-random auto --random-features 5 --updates 0"
    here, there = on_both(f"{line} --runs 3 --prefixes 1 --resample episodes")
    for name in ("lstd-random", "auto"):
        same(here / name, there / name)
