"""The data of the supervised tasks, standardised, as tensors.

friedman        Friedman #1 of scikit-learn, drawn anew for every seed
boston          Boston housing of mlxtend, split anew for every seed
synthetic       the paper's regression of section 4: y of a random network, drawn for every seed
mnist, fashion-mnist, cifar10    read from files, the same for all seeds
"""

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.runs.command_line.checks import UsageError
from experiments.train_supervised.image_files import CLASSES, Images, read_images
from neural_tdc.randomness import generator
from neural_tdc.stackelberg.supervised import Samples

FRIEDMAN_SAMPLES = (1000, 1000)
FRIEDMAN_NOISE = 1.0
BOSTON_TRAINING = 404
SYNTHETIC_SAMPLES = (200, 1000)
SYNTHETIC_INPUTS = 10
SYNTHETIC_UNITS = 20
SYNTHETIC_NOISE = 0.1
IMAGES = ("mnist", "fashion-mnist", "cifar10")


class Dataset(NamedTuple):
    """A task's data.

    classes: None for regression
    unit:    [seed] what one unit of the standardised target is in the target's own; 1 for labels
    digest:  SHA-256 of what was read from files, None where nothing was
    """

    train: Samples
    test: Samples
    classes: int | None
    unit: Tensor
    digest: str | None

    @property
    def inputs(self) -> int:
        """Return the number of inputs of a network."""
        return self.train.inputs.shape[1]


Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _numpy_seed(seed: int, task: str, run: int) -> int:
    return generator(seed, task, run).initial_seed() % 2**32


def _friedman(seed: int, run: int) -> Split:
    try:
        from sklearn.datasets import make_friedman1
    except ImportError:
        raise UsageError("--task friedman needs scikit-learn: pip install scikit-learn") from None
    train, test = FRIEDMAN_SAMPLES
    inputs, target = make_friedman1(
        train + test, noise=FRIEDMAN_NOISE, random_state=_numpy_seed(seed, "friedman", run)
    )
    return inputs[:train], target[:train], inputs[train:], target[train:]


def _boston(seed: int, run: int) -> Split:
    try:
        from mlxtend.data import boston_housing_data
    except ImportError:
        raise UsageError("--task boston needs mlxtend: pip install mlxtend") from None
    inputs, target = boston_housing_data()
    order = np.random.default_rng(_numpy_seed(seed, "boston", run)).permutation(len(target))
    train, test = order[:BOSTON_TRAINING], order[BOSTON_TRAINING:]
    return inputs[train], target[train], inputs[test], target[test]


def _synthetic(seed: int, run: int) -> Split:
    """Draw inputs and a network of standard normals, and its outputs with a little noise."""
    source = np.random.default_rng(_numpy_seed(seed, "synthetic", run))
    train, test = SYNTHETIC_SAMPLES
    inputs = source.standard_normal((train + test, SYNTHETIC_INPUTS))
    weight = source.standard_normal((SYNTHETIC_INPUTS, SYNTHETIC_UNITS))
    head = source.standard_normal(SYNTHETIC_UNITS)
    clean = np.maximum(inputs @ weight, 0) @ head
    target = clean + SYNTHETIC_NOISE * clean.std() * source.standard_normal(len(clean))
    return inputs[:train], target[:train], inputs[train:], target[train:]


REGRESSIONS: dict[str, Callable[[int, int], Split]] = {
    "friedman": _friedman,
    "boston": _boston,
    "synthetic": _synthetic,
}
TASKS = (*REGRESSIONS, *IMAGES)


def _standardised(split: Split) -> tuple[Split, float]:
    """Give inputs and target of the training part mean 0 and variance 1, the test part likewise."""
    inputs, target, test_inputs, test_target = split
    mean, spread = inputs.mean(0), inputs.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    level, unit = target.mean(), float(target.std())
    scaled = (
        (inputs - mean) / spread,
        (target - level) / unit,
        (test_inputs - mean) / spread,
        (test_target - level) / unit,
    )
    return scaled, unit


def _samples(parts: list[tuple[np.ndarray, np.ndarray]], dtype: torch.dtype) -> Samples:
    """Lay the samples of all seeds end to end."""
    size = len(parts[0][1])
    inputs, target = (torch.from_numpy(np.concatenate(arrays)).to(dtype) for arrays in zip(*parts))
    return Samples(inputs, target[:, None], torch.arange(len(parts)) * size, size)


def _images(task: str, folder: Path | None, seeds: int, dtype: torch.dtype) -> Dataset:
    train, test = read_images(task, folder)
    digest = hashlib.sha256()
    for array in (*train, *test):
        digest.update(np.ascontiguousarray(array).tobytes())
    # One mean and one spread for all pixels; float64 sums of bytes are exact.
    mean = float(train.pixels.mean(dtype=np.float64))
    square = float(np.square(train.pixels, dtype=np.float32).mean(dtype=np.float64))
    spread = math.sqrt(max(square - mean**2, 0.0)) or 1.0

    def samples(images: Images) -> Samples:
        inputs = torch.from_numpy(images.pixels.copy()).to(dtype).sub_(mean).div_(spread)
        everybody = torch.zeros(seeds, dtype=torch.int64)
        return Samples(inputs, torch.from_numpy(images.labels), everybody, len(images.labels))

    return Dataset(samples(train), samples(test), CLASSES, torch.ones(seeds), digest.hexdigest())


def read_dataset(
    task: str, folder: Path | None, seed: int, seeds: int, dtype: torch.dtype
) -> Dataset:
    """Return a task's data for `seeds` seeds; what is drawn for one depends on (seed, it) only.

    Inputs and real targets have mean 0 and variance 1 over the training part; of images all pixels
    share one mean and one variance.
    Raises UsageError in one line for missing or damaged files and libraries.
    """
    if task in IMAGES:
        return _images(task, folder, seeds, dtype)
    drawn = [_standardised(REGRESSIONS[task](seed, run)) for run in range(seeds)]
    parts, units = zip(*drawn)
    train, test = (
        _samples([(part[start], part[start + 1]) for part in parts], dtype) for start in (0, 2)
    )
    return Dataset(train, test, None, torch.tensor(units, dtype=torch.float64), None)
