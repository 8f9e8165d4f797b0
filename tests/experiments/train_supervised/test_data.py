"""The supervised tasks' data: standardised, each seed its own, and files told apart."""

import sys

import numpy as np
import pytest
import torch

from experiments.runs.command_line.checks import UsageError
from experiments.train_supervised import data as supervised_data
from experiments.train_supervised.data import read_dataset
from experiments.train_supervised.image_files import Images

F64 = torch.float64


@pytest.mark.parametrize(
    ("task", "train", "test", "inputs"),
    [("friedman", 1000, 1000, 10), ("boston", 404, 102, 13), ("synthetic", 200, 1000, 10)],
)
def test_a_regression_has_seeds_of_their_own_all_standardised_on_their_training_part(
    task, train, test, inputs
):
    data = read_dataset(task, None, 0, 3, F64)
    assert (data.classes, data.inputs, data.digest) == (None, inputs, None)
    assert (data.train.size, data.test.size) == (train, test)
    assert data.train.first.tolist() == [0, train, 2 * train]
    firsts = []
    for seed in range(3):
        x, y = data.train.of(seed)
        assert y.shape == (train, 1)
        torch.testing.assert_close(x.mean(0), torch.zeros(inputs, dtype=F64), atol=1e-12, rtol=0)
        torch.testing.assert_close(x.std(0, correction=0), torch.ones(inputs, dtype=F64))
        assert y.mean().item() == pytest.approx(0, abs=1e-12)
        assert y.std(correction=0).item() == pytest.approx(1)
        assert data.test.of(seed)[0].shape == (test, inputs)
        # The test part is scaled by the training part's numbers, not its own.
        assert data.test.of(seed)[1].mean().abs() > 1e-6
        firsts.append(x[0])
    assert not torch.equal(firsts[0], firsts[1])


@pytest.mark.parametrize("task", ["friedman", "boston", "synthetic"])
def test_a_seeds_data_depend_on_the_seed_and_its_number_only(task):
    few, many, other = (
        read_dataset(task, None, seed, runs, F64) for seed, runs in ((1, 1), (1, 2), (2, 1))
    )
    assert torch.equal(few.train.inputs, many.train.of(0)[0])
    assert torch.equal(few.test.target, many.test.of(0)[1])
    assert not torch.equal(few.train.inputs, other.train.inputs)


def test_the_unit_turns_a_standardised_error_into_the_targets_own():
    data = read_dataset("boston", None, 0, 2, F64)
    # House prices in thousands of dollars spread by about 9.
    assert data.unit.shape == (2,)
    assert 8 < float(data.unit[0]) < 10.5


def test_friedmans_target_is_the_published_function_with_noise_of_variance_one():
    inputs, target, *_ = supervised_data.REGRESSIONS["friedman"](0, 0)
    clean = (
        10 * np.sin(np.pi * inputs[:, 0] * inputs[:, 1])
        + 20 * (inputs[:, 2] - 0.5) ** 2
        + 10 * inputs[:, 3]
        + 5 * inputs[:, 4]
    )
    assert (target - clean).std() == pytest.approx(1, abs=0.1)


def test_boston_is_split_without_loss_and_without_repetition():
    inputs, target, test_inputs, test_target = supervised_data.REGRESSIONS["boston"](0, 3)
    rows = {(*row, y) for x, ys in ((inputs, target), (test_inputs, test_target))
            for row, y in zip(x.tolist(), ys.tolist())}  # fmt: skip
    assert (len(target), len(test_target), len(rows)) == (404, 102, 506)


@pytest.fixture
def pictures(monkeypatch):
    source = np.random.default_rng(0)

    def made(count):
        pixels = source.integers(256, size=(count, 6)).astype(np.uint8)
        return Images(pixels, source.integers(10, size=count))

    parts = (made(9), made(4))
    monkeypatch.setattr(supervised_data, "read_images", lambda task, folder: parts)
    return parts


def test_images_are_the_same_for_all_seeds_with_one_mean_and_variance_over_all_pixels(pictures):
    data = read_dataset("mnist", None, 0, 3, F64)
    assert data.classes == 10
    assert data.train.first.tolist() == [0, 0, 0]
    assert data.train.inputs.mean().item() == pytest.approx(0, abs=1e-12)
    assert data.train.inputs.std(correction=0).item() == pytest.approx(1)
    pixels = pictures[0].pixels.astype(float)
    expected = (pictures[1].pixels - pixels.mean()) / pixels.std()
    np.testing.assert_allclose(data.test.inputs.numpy(), expected, rtol=1e-12)
    assert data.train.target.tolist() == pictures[0].labels.tolist()
    assert read_dataset("mnist", None, 0, 1, torch.float32).train.inputs.dtype == torch.float32


def test_the_digest_tells_other_pictures_and_other_labels(pictures):
    before = read_dataset("mnist", None, 0, 1, F64).digest
    assert read_dataset("mnist", None, 5, 2, F64).digest == before
    pictures[1].labels[2] += 1
    after = read_dataset("mnist", None, 0, 1, F64).digest
    assert after != before
    pictures[0].pixels[0, 0] ^= 1
    assert read_dataset("mnist", None, 0, 1, F64).digest not in (before, after)


@pytest.mark.parametrize(
    ("task", "package"), [("friedman", "sklearn.datasets"), ("boston", "mlxtend.data")]
)
def test_a_missing_package_is_named_with_how_to_get_it(monkeypatch, task, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"--task {task} needs .*: pip install"):
        read_dataset(task, None, 0, 1, F64)
