"""What the settings of supervised learning stand for: data, networks, arms, and where to run."""

import itertools
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from experiments.runs.command_line.checks import named
from experiments.runs.command_line.common_settings import stored
from experiments.runs.command_line.computing import (
    compilation,
    resolve_device,
    threads_for,
    torch_dtype,
)
from experiments.train_supervised.data import Dataset, read_dataset
from experiments.train_supervised.settings import SupervisedSettings
from neural_tdc.compiled.private_compiler import compiler_available
from neural_tdc.device_memory import check_memory
from neural_tdc.learning.learner import divergence_limit
from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.projections import projection
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    CROSS_ENTROPY,
    SQUARED,
    NetworkObjective,
    initial_networks,
)
from neural_tdc.randomness import keys
from neural_tdc.stackelberg.supervised import (
    Learning,
    Rates,
    Responder,
    Samples,
    SupervisedState,
    initial_supervised_state,
)

# Parameters moved in a whole run from which a compiled program wins back its compilation.
MOVES_WORTH_COMPILING = 2e9


class SupervisedPlan(NamedTuple):
    """Everything a run needs.

    dataset: where it is measured, which may be the CPU while learning is on a GPU
    samples: those of training where they are learned from
    key:     [seed] of the batches
    state:   the population before its first update
    limit:   [seed] the magnitude beyond which a parameter counts as diverged
    """

    settings: SupervisedSettings
    learning: Learning
    dataset: Dataset
    samples: Samples
    key: Tensor
    state: SupervisedState
    limit: Tensor
    device: torch.device
    compiled: bool

    @property
    def stored(self) -> dict[str, Any]:
        """Return the settings as they are written down and compared on resume."""
        return {**stored(self.settings), "data_sha256": self.dataset.digest}


def _on(samples: Samples, device: torch.device) -> Samples:
    inputs, target, first, size = samples
    return Samples(inputs.to(device), target.to(device), first.to(device), size)


def _check_memory(
    settings: SupervisedSettings, sizes: list[int], device: torch.device, dtype: torch.dtype
) -> None:
    """Raise UsageError where the networks of all arms and seeds, or a batch, do not fit."""
    numbers = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
    # The initial networks, and their copy of every arm.
    copies = settings.runs * (1 + len(settings.arm))
    hidden = " ".join(map(str, settings.hidden))
    with named(f"--runs {settings.runs} --hidden {hidden}"):
        what = f"the networks of {len(settings.arm)} arms"
        check_memory(what, copies * numbers * dtype.itemsize, device)
    # What enters every layer, of every arm and seed: the least that an update needs.
    units = settings.runs * len(settings.arm) * settings.batch * sum(sizes[:-1])
    with named(f"--batch {settings.batch}"):
        check_memory("an update", units * dtype.itemsize, device)


def supervised_plan(settings: SupervisedSettings) -> SupervisedPlan:
    """Read the data and make the population of checked, completed settings.

    Raises UsageError for missing or damaged data and a device that is not there.
    """
    device = resolve_device(settings.device, deterministic=settings.deterministic)
    dtype = torch_dtype(settings.dtype)
    runs, arms = settings.runs, settings.arm
    # Before the data are read there is one input and one output at least.
    _check_memory(settings, [1, *settings.hidden, 1], device, dtype)
    dataset = read_dataset(settings.task, settings.data, settings.seed, runs, dtype)
    samples = _on(dataset.train, device)
    if settings.measure_on == "device":
        dataset = dataset._replace(train=samples, test=_on(dataset.test, device))
    loss = SQUARED if dataset.classes is None else CROSS_ENTROPY
    # The arm `limit` assigns its head: what an optimiser keeps of it moves nothing.
    learning = Learning(
        NetworkObjective(loss, CLOSED_FORM_ACTIVATIONS[settings.activation], settings.ridge),
        arms,
        Rates(
            settings.body_step,
            settings.head_step,
            settings.automatic_low,
            settings.automatic_high,
            "long" if settings.automatic_kind == "long" else "short",
        ),
        settings.batch,
        part_optimizers(settings.optimizer),
        schedule(settings.schedule),
        projection(settings.constraint),
        Responder(
            settings.response_every,
            settings.response_samples,
            settings.response_tolerance,
        ),
    )
    sizes = [dataset.inputs, *settings.hidden, dataset.classes or 1]
    _check_memory(settings, sizes, device, dtype)
    networks = tree_map(
        lambda leaf: leaf.to(device), initial_networks(sizes, settings.seed, runs, dtype)
    )
    state = initial_supervised_state(learning, networks)
    moved = sum(leaf.numel() for leaf in tree_leaves(networks)) * len(arms)
    return SupervisedPlan(
        settings,
        learning,
        dataset,
        samples,
        keys(settings.seed, runs, "batch").to(device),
        state,
        divergence_limit(networks),
        device,
        _compiled(settings, device, moved),
    )


def _compiled(settings: SupervisedSettings, device: torch.device, parameters: int) -> bool:
    """Decide whether to compile; warn where it was asked for in vain."""
    worth = settings.steps * parameters >= MOVES_WORTH_COMPILING
    available = compiler_available(device)
    compiled, warning = compilation(settings.compile, worth=worth, available=available)
    if warning:
        print(warning, file=sys.stderr)
    return compiled


def threads(plan: SupervisedPlan) -> int:
    """Return the number of threads for the population."""
    return threads_for(sum(leaf.numel() for leaf in tree_leaves(plan.state)))


def default_folder(settings: SupervisedSettings) -> Path:
    """Return the folder of a run whose --out is not given."""
    return settings.out or Path("runs") / settings.task
