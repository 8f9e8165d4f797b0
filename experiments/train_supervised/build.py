"""What the settings of supervised learning stand for: data, networks, arms, and where to run."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from experiments.runs.command_line import resolve_device
from experiments.train_supervised.data import Dataset, read_dataset
from experiments.train_supervised.settings import Settings
from neural_tdc.learning.compilation import compiler_available
from neural_tdc.learning.learner import divergence_limit
from neural_tdc.learning.optimisers import Optimizer
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

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Parameters moved in a whole run from which a compiled program wins back its compilation.
WORTH_COMPILING = 2e9
# Parameters of a population below which one thread is faster than several.
WORTH_THREADS = 2**18


class Plan(NamedTuple):
    """Everything a run needs.

    key:   [seed] of the batches
    state: the population before its first update
    limit: [seed] the magnitude beyond which a parameter counts as diverged
    """

    settings: Settings
    learning: Learning
    dataset: Dataset
    key: Tensor
    state: SupervisedState
    limit: Tensor
    device: torch.device
    compiled: bool

    @property
    def stored(self) -> dict[str, Any]:
        """Return the settings as they are written down and compared on resume."""
        stored = asdict(self.settings)
        del stored["resume"], stored["overwrite"], stored["out"]
        return {**stored, "data_sha256": self.dataset.digest}


def _on(samples: Samples, device: torch.device) -> Samples:
    inputs, target, first, size = samples
    return Samples(inputs.to(device), target.to(device), first.to(device), size)


def plan(settings: Settings) -> Plan:
    """Read the data and make the population of checked, completed settings.

    Raises UsageError for missing or damaged data and a device that is not there.
    """
    device, dtype = resolve_device(settings.device), DTYPES[settings.dtype]
    runs, arms = settings.runs or 1, tuple(settings.arm or ())
    dataset = read_dataset(settings.task, settings.data, settings.seed, runs, dtype)
    dataset = dataset._replace(train=_on(dataset.train, device), test=_on(dataset.test, device))
    loss = SQUARED if dataset.classes is None else CROSS_ENTROPY
    # The arm `limit` assigns its head, and RMSProp's mean squares of it move nothing.
    names = (settings.optimizer, settings.optimizer)
    learning = Learning(
        NetworkObjective(loss, CLOSED_FORM_ACTIVATIONS[settings.activation], settings.ridge or 0.0),
        arms,
        Rates(
            settings.body_step or 0.0,
            settings.head_step or 0.0,
            settings.automatic_low,
            settings.automatic_high,
            "long" if settings.automatic_kind == "long" else "short",
        ),
        settings.batch or 1,
        Optimizer(*names),
        schedule(settings.schedule),
        projection(settings.constraint),
        Responder(
            settings.response_every or 1,
            settings.response_samples,
            settings.response_tolerance,
        ),
    )
    sizes = [dataset.inputs, *(settings.hidden or ()), dataset.classes or 1]
    networks = tree_map(
        lambda leaf: leaf.to(device), initial_networks(sizes, settings.seed, runs, dtype)
    )
    state = initial_supervised_state(learning, networks)
    moved = sum(leaf.numel() for leaf in tree_leaves(networks)) * len(arms)
    return Plan(
        settings,
        learning,
        dataset,
        keys(settings.seed, runs, "batch").to(device),
        state,
        divergence_limit(networks),
        device,
        _compiled(settings, device, moved),
    )


def _compiled(settings: Settings, device: torch.device, parameters: int) -> bool:
    """Decide whether to compile; warn where it was asked for in vain."""
    if settings.compile == "off":
        return False
    available = compiler_available(device)
    if settings.compile == "on" and not available:
        print(
            "warning: --compile on: there is no C++ compiler here, so the run is eager",
            file=sys.stderr,
        )
    worth = settings.compile == "on" or (settings.steps or 0) * parameters >= WORTH_COMPILING
    return available and worth


def threads(plan: Plan) -> int:
    """Return how many threads a population is worth: small kernels lose more by waiting."""
    parameters = sum(leaf.numel() for leaf in tree_leaves(plan.state))
    return 1 if parameters < WORTH_THREADS else torch.get_num_threads()


def default_folder(settings: Settings) -> Path:
    """Return the folder of a run whose --out is not given."""
    return settings.out or Path("runs") / settings.task
