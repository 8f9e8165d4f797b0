"""The command line of supervised learning with split rates, its defaults a task, and its checks."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from experiments.runs.command_line import (
    UsageError,
    check_choice,
    check_integer,
    check_positive,
    check_positive_integer,
    check_readable,
    check_resume_or_overwrite,
    check_several,
    check_step_size,
)
from experiments.train_supervised.data import IMAGES, TASKS
from neural_tdc.learning.optimisers import OPTIMIZER_NAMES
from neural_tdc.learning.projections import projection
from neural_tdc.learning.schedules import exponents
from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.stackelberg.supervised import AUTOMATIC_ARMS, SUPERVISED_ARMS


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


@dataclass(kw_only=True)
class Settings:
    """Train fully connected networks at split learning rates, and at uniform ones beside them.

    Tasks: friedman and boston (regression, one hidden layer), mnist, fashion-mnist and cifar10
    (classification, two hidden layers), synthetic (the regression of the paper's section 4).

    Arms, all from the same initial networks and on the same batches: split (body at --body-step,
    head at --head-step), body-rate (all layers at --body-step), head-rate (all at --head-step),
    limit (the head is its best response, the body at --body-step), automatic-sgd,
    automatic-momentum and automatic-sign (rates of their own, by Barzilai-Borwein steps).
    """

    task: str
    """friedman, boston, mnist, fashion-mnist, cifar10 or synthetic."""
    arm: list[str] | None = None
    """One or several arms; split body-rate head-rate limit if not given."""
    runs: int | None = None
    """Seeds: each has an initial network and batches of its own, and a regression task its own
    data or split (20; 10 for mnist and fashion-mnist, 3 for cifar10)."""
    steps: int | None = None
    """Updates a run (2,000; 2,350 for images, as many samples as five times the training set of
    MNIST)."""
    batch: int | None = None
    """Samples an update, drawn with replacement (32; 128 for images)."""
    body_step: float | None = None
    """Learning rate α of the body (5e-4)."""
    head_step: float | None = None
    """Learning rate β of the head (5e-3; 2.5e-3 for images)."""
    hidden: list[int] | None = None
    """Units of each hidden layer (64; 128 64 for images)."""
    activation: str = "relu"
    """relu, as in the paper's experiments, or tanh, which is smooth as its theory wants."""
    optimizer: str = "rmsprop"
    """rmsprop or sgd, for the arms with given rates."""
    schedule: str = "constant"
    """constant; general or strongly-convex (the paper's exponents); polynomial:BODY,HEAD,0."""
    constraint: str = "none"
    """Projection of θ and W each: none, box:R or ball:R."""
    ridge: float | None = None
    """λ of λ/2·‖θ‖² on the head (1e-3; 1e-4 for images)."""
    response_every: int | None = None
    """Updates between two answers of the limit's head (5; 50 for images)."""
    response_samples: int = 2000
    """Training samples that a best response is for, at most; the lag is measured on them."""
    response_tolerance: float = 1e-4
    """Largest entry of the gradient at which a softmax best response counts as found."""
    automatic_low: float = 1e-5
    """Shortest step of the automatic arms."""
    automatic_high: float = 1.0
    """Longest step of the automatic arms."""
    automatic_kind: str = "long"
    """The Barzilai-Borwein step: long, or short."""
    measure_every: int | None = None
    """Updates between two measurements; the first is before the first update (100; 235)."""
    curvature_every: int = 5
    """Measurements from one to the next that includes the curvature; 0 never measures it."""
    curvature_runs: int | None = None
    """Seeds whose curvature is measured, the first ones (5; 1 for images)."""
    curvature_samples: int = 500
    """Training samples on which the curvature is measured."""
    curvature_products: int = 30
    """Hessian-vector products for the largest eigenvalue, at most, and probes for the trace."""
    train_samples: int = 10_000
    """Training samples, at most, on which the training loss is measured."""
    data: Path | None = None
    """Folder of image files, laid out as torchvision does it or flat; data, and the system's
    folder of Fashion-MNIST, if not given."""
    dtype: str = "float32"
    """float32 or float64, for learning; best responses and curvature are always in float64."""
    compile: str = "auto"
    """auto: compile where the number of steps is worth its 10 to 30 seconds; on; off."""
    seed: int = 0
    """Seed of everything; same seed, machine and --compile, same result to the bit on the CPU."""
    device: str = "auto"
    """auto, cpu or cuda."""
    out: Path | None = None
    """Folder of the run, or of one run an arm; runs/TASK if not given."""
    resume: bool = False
    """Go on with the run in --out; only --steps (longer) and --device may differ."""
    overwrite: bool = False
    """Replace a run in --out."""


T = TypeVar("T", bound=Settings)

COUNTS = (
    "runs",
    "steps",
    "batch",
    "response_every",
    "response_samples",
    "measure_every",
    "curvature_samples",
    "curvature_runs",
    "train_samples",
)
RATES = ("body_step", "head_step", "response_tolerance", "automatic_low", "automatic_high")
# The arms that are compared where none are named.
COMPARED = ("split", "body-rate", "head-rate", "limit")


def completed(settings: T, arms: tuple[str, ...] = COMPARED) -> T:
    """Return the settings with the task's usual values in place of those not given, and checked.

    arms: those of the program where none are given
    """
    check_choice("--task", settings.task, TASKS)
    usual = USUAL[settings.task]
    whole = replace(settings)
    for name, value in (*usual._asdict().items(), ("arm", arms)):
        if getattr(settings, name) is None:
            setattr(whole, name, list(value) if isinstance(value, tuple) else value)
    if settings.curvature_runs is None:
        whole.curvature_runs = min(usual.curvature_runs, whole.runs or 1)
    check_values(whole)
    return whole


def check_values(settings: Settings) -> None:
    """Raise UsageError for a value that is not allowed, or for two that exclude each other."""
    for arm in check_several("--arm", settings.arm or []):
        check_choice("--arm", arm, SUPERVISED_ARMS)
    for flag, value, names in (
        ("--activation", settings.activation, CLOSED_FORM_ACTIVATIONS),
        ("--optimizer", settings.optimizer, OPTIMIZER_NAMES),
        ("--automatic-kind", settings.automatic_kind, ("long", "short")),
        ("--dtype", settings.dtype, ("float32", "float64")),
        ("--compile", settings.compile, ("auto", "on", "off")),
    ):
        check_choice(flag, value, names)
    for name in COUNTS:
        check_positive_integer(_flag(name), getattr(settings, name))
    if not settings.hidden:
        raise UsageError("--hidden is given without a number: without a layer there is no body")
    for units in settings.hidden:
        check_positive_integer("--hidden", units)
    for name in RATES:
        check_positive(_flag(name), getattr(settings, name))
    check_integer("--curvature-every", settings.curvature_every, 0)
    check_integer("--curvature-products", settings.curvature_products, 2)
    check_integer("--seed", settings.seed, 0)
    if settings.automatic_low > settings.automatic_high:
        raise UsageError(
            f"--automatic-low {settings.automatic_low:g} is above --automatic-high "
            f"{settings.automatic_high:g}"
        )
    ridge = check_step_size("--ridge", settings.ridge or 0.0)
    if settings.task in IMAGES and ridge == 0:
        raise UsageError(
            f"--ridge 0 with --task {settings.task}: the softmax best response is not unique "
            "without a ridge; give a number above 0"
        )
    if settings.curvature_runs is not None and settings.curvature_runs > (settings.runs or 1):
        raise UsageError(
            f"--curvature-runs {settings.curvature_runs} is more than the {settings.runs} seeds "
            "of --runs"
        )
    check_readable("--schedule", exponents, settings.schedule)
    check_readable("--constraint", projection, settings.constraint)
    check_resume_or_overwrite(settings.resume, settings.overwrite)
    check_effects(settings)


def check_effects(settings: Settings) -> None:
    """Raise UsageError for a flag that changes nothing for this task or any of the arms."""
    arms = settings.arm or []
    chosen = "with --arm " + " ".join(arms)
    refused = (
        (settings.task not in IMAGES, ("data",), f"with --task {settings.task}"),
        (
            not set(arms) & set(AUTOMATIC_ARMS),
            ("automatic_low", "automatic_high", "automatic_kind"),
            f"{chosen}, only with an automatic arm",
        ),
        (
            set(arms) <= set(AUTOMATIC_ARMS),
            ("optimizer", "schedule", "constraint"),
            f"{chosen}, only with arms whose rates are given",
        ),
    )
    defaults = {field.name: field.default for field in fields(settings)}
    for holds, names, why in refused:
        for name in names:
            value = getattr(settings, name)
            if holds and value != defaults[name]:
                raise UsageError(f"{_flag(name)} {value} has no effect {why}")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
