"""The settings of supervised learning with split rates, with the usual values of each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.common_settings import ComputingSettings, FolderSettings
from experiments.runs.command_line.program import flags_given
from experiments.runs.command_line.requirements import (
    above,
    at_least,
    count,
    one_of,
    read_by,
    several,
)
from experiments.runs.command_line.settings import Idle, check_effects, flag_of, settings_from
from experiments.train_supervised.data import IMAGES, TASKS
from neural_tdc.learning.optimisers import OPTIMIZER_MAKERS
from neural_tdc.learning.projections import projection
from neural_tdc.learning.schedules import exponents
from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.stackelberg.supervised import AUTOMATIC_ARMS, SUPERVISED_ARMS

# The arms that are compared where none are named.
COMPARED = ("split", "body-rate", "head-rate", "limit")


class Usual(NamedTuple):
    """What a task's flags are where they are not given."""

    hidden: tuple[int, ...]
    runs: int
    steps: int
    batch: int
    body_step: float
    head_step: float
    ridge: float
    measure_every: int
    response_every: int
    curvature_runs: int


_REGRESSION = Usual((64,), 20, 2000, 32, 5e-4, 5e-3, 1e-3, 100, 5, 5)
_IMAGES = Usual((128, 64), 10, 2350, 128, 5e-4, 2.5e-3, 1e-4, 235, 50, 1)
USUAL = {
    "friedman": _REGRESSION,
    "boston": _REGRESSION,
    "synthetic": _REGRESSION,
    "mnist": _IMAGES,
    "fashion-mnist": _IMAGES,
    "cifar10": _IMAGES._replace(runs=3, curvature_runs=1),
}


@dataclass(frozen=True, kw_only=True)
class SupervisedSettings(ComputingSettings, FolderSettings):
    """Train fully connected networks with split learning rates, and with equal ones to compare.

    Tasks: friedman and boston (regression, one hidden layer), mnist, fashion-mnist and cifar10
    (classification, two hidden layers), synthetic (the regression of the paper's section 4).

    All arms start from the same initial networks and see the same batches. The arms are split (the
    body learns at --body-step, the head at --head-step), body-rate (all layers learn at
    --body-step), head-rate (all layers learn at --head-step), limit (the head is the best response
    to the body, which learns at --body-step), and automatic-sgd, automatic-momentum and
    automatic-sign (learning rates by Barzilai-Borwein steps).
    """

    program: ClassVar[str] = "python -m experiments.train_supervised"
    may_differ: ClassVar[tuple[str, ...]] = ("steps", "device")

    task: Annotated[str, one_of(TASKS)]
    """The task: friedman, boston, mnist, fashion-mnist, cifar10 or synthetic."""
    arm: Annotated[tuple[str, ...], several, one_of(SUPERVISED_ARMS)] = COMPARED
    """One or several arms."""
    runs: Annotated[int, count(1)]
    """Number of seeds. Each seed has its own initial network and batches; on regression tasks also
    its own data or split."""
    steps: Annotated[int, count(1)]
    """Updates per run. On images, 2,350 updates use five times as many samples as the training set
    of MNIST has."""
    batch: Annotated[int, count(1)]
    """Samples per update, drawn with replacement."""
    body_step: Annotated[float, above(0)]
    """Learning rate α of the body."""
    head_step: Annotated[float, above(0)]
    """Learning rate β of the head."""
    hidden: Annotated[tuple[int, ...], count(1)]
    """Units of each hidden layer."""
    activation: Annotated[str, one_of(CLOSED_FORM_ACTIVATIONS)] = "relu"
    """Activation: relu, as in the paper's experiments, or tanh, which is smooth, as the paper's
    theory assumes."""
    optimizer: Annotated[str, one_of(OPTIMIZER_MAKERS)] = "rmsprop"
    """The optimiser of the arms with given learning rates: rmsprop, adam or sgd."""
    schedule: Annotated[str, read_by(exponents)] = "constant"
    """constant; general or strongly-convex (the paper's exponents); polynomial:BODY,HEAD,0 with
    exponents of your own. NAME@H, for the last three, holds the rates nearly constant over H
    updates: ((H + k)/H)^(-a) after k updates."""
    constraint: Annotated[str, read_by(projection)] = "none"
    """Projection of θ and of W after each update: none, box:R or ball:R with radius R."""
    ridge: Annotated[float, at_least(0)]
    """Coefficient λ of a ridge λ/2·‖θ‖² on the head."""
    response_every: Annotated[int, count(1)]
    """For --arm limit: updates between two computations of the best-response head."""
    response_samples: Annotated[int, count(1)] = 2000
    """Largest number of training samples for a best response and for the tracking error of the
    head."""
    response_tolerance: Annotated[float, above(0)] = 1e-4
    """Classification: a best response is accepted if no entry of the gradient is larger than this
    (absolute value)."""
    automatic_low: Annotated[float, above(0)] = 1e-5
    """Smallest step size of the automatic arms."""
    automatic_high: Annotated[float, above(0)] = 1.0
    """Largest step size of the automatic arms."""
    automatic_kind: Annotated[str, one_of(("long", "short"))] = "long"
    """Which Barzilai-Borwein step the automatic arms use: long (‖s‖²/|s·y|) or short
    (|s·y|/‖y‖²)."""
    measure_every: Annotated[int, count(1)]
    """Updates between two measurements. The first measurement is before the first update."""
    curvature_every: Annotated[int, count(0)] = 5
    """Measure the curvature at every N-th measurement; 0 means never."""
    curvature_runs: Annotated[int, count(1)]
    """Number of seeds whose curvature is measured, at most --runs."""
    curvature_samples: Annotated[int, count(1)] = 500
    """Number of training samples on which the curvature is measured."""
    curvature_products: Annotated[int, count(2)] = 30
    """Largest number of Hessian-vector products for the largest eigenvalue, and number of probes
    for the trace."""
    train_samples: Annotated[int, count(1)] = 10_000
    """Largest number of training samples on which the training loss is measured."""
    data: Path | None = None
    """Folder of the image files, in torchvision's layout or all in one folder. The default is the
    folder data and, for Fashion-MNIST, also the folder of Debian's package."""
    out: Path | None = None
    """Folder of the run. With several arms, each has a folder in it. The default is runs/TASK."""
    compile: Annotated[str, one_of(("auto", "on", "off"))] = "auto"
    """auto: compile if learning takes longer than compiling (10 to 30 seconds); on; off."""
    dtype: Annotated[str, one_of(("float32", "float64"))] = "float32"
    """Precision of learning; best responses and curvature are always in float64."""
    measure_on: Annotated[str, one_of(("device", "host"))] = "device"
    """device: measure on --device; host: measure, and compute the heads of --arm limit, on the CPU,
    which many GPUs are slower than in float64."""
    resume: bool = False
    """Continue the run in --out. Only --steps (which may increase) and --device may differ."""

    def __post_init__(self) -> None:
        """Check every field, and what several of them say together."""
        super().__post_init__()
        if not self.hidden:
            raise UsageError("--hidden is given without a number: without a layer there is no body")
        if self.automatic_low > self.automatic_high:
            raise UsageError(
                f"--automatic-low {self.automatic_low:g} is above --automatic-high "
                f"{self.automatic_high:g}"
            )
        if self.task in IMAGES and self.ridge == 0:
            raise UsageError(
                f"--ridge 0 with --task {self.task}: the softmax best response is not unique "
                "without a ridge; give a number above 0"
            )
        if self.curvature_runs > self.runs:
            raise UsageError(
                f"--curvature-runs {self.curvature_runs} is more than the {self.runs} seeds "
                "of --runs"
            )


def usual_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the usual values of the task that is given, {field: value}."""
    usual = USUAL[given.get("task", "synthetic")]._asdict()
    runs = given.get("runs", usual["runs"])
    return {**usual, "curvature_runs": min(usual["curvature_runs"], runs)}


def usual_in_words() -> dict[str, str]:
    """Return {setting: its usual values for the tasks} for the help page."""
    said = {}
    for name in Usual._fields:
        tasks: dict[str, list[str]] = {}
        for task, usual in USUAL.items():
            value = getattr(usual, name)
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else f"{value:,}"
            tasks.setdefault(shown, []).append(task)
        parts = [f"{value} for {', '.join(names)}" for value, names in tasks.items()]
        said[name] = "; ".join(parts) if len(tasks) > 1 else next(iter(tasks))
    return said


# Settings whose defaults are those of the task, and the arms that do not take them.
_NOT_TAKEN = {
    "body_step": {"head-rate"},
    "head_step": {"body-rate", "limit"},
    "response_every": {*SUPERVISED_ARMS} - {"limit"},
}


def check_taken(arms: Sequence[str], given: Mapping[str, Any]) -> None:
    """Raise UsageError where a rate, or how often a head answers, is given that no arm takes."""
    for name, without in _NOT_TAKEN.items():
        if name in given and set(arms) <= without:
            raise UsageError(
                f"{flag_of(name)} {given[name]:g} has no effect with --arm {' '.join(arms)}"
            )


def read_supervised_settings(argv: Sequence[str]) -> SupervisedSettings:
    """Make the settings of a command line, checked, and completed by the task's usual values."""
    given = flags_given([SupervisedSettings], argv, usual_in_words())
    settings = settings_from(SupervisedSettings, usual_values(given), given)
    check_taken(settings.arm, given)
    check_effects(settings, idle_supervised_settings(settings))
    return settings


def idle_supervised_settings(settings: SupervisedSettings) -> list[Idle]:
    """Return the settings that change nothing for this task or any of the arms."""
    arms = set(settings.arm)
    chosen = "with --arm " + " ".join(settings.arm)
    idle = []
    if settings.task not in IMAGES:
        idle.append(Idle(("data",), f"with --task {settings.task}"))
        why = f"with --task {settings.task}, whose best response is solved in one step"
        idle.append(Idle(("response_tolerance",), why))
    if not arms & set(AUTOMATIC_ARMS):
        names = ("automatic_low", "automatic_high", "automatic_kind")
        idle.append(Idle(names, f"{chosen}, only with an automatic arm"))
    if arms <= set(AUTOMATIC_ARMS):
        names = ("optimizer", "schedule", "constraint")
        idle.append(Idle(names, f"{chosen}, only with arms whose rates are given"))
    return idle
