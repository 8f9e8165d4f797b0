"""Settings that several programs have: where a run is kept, and how it is computed."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.requirements import count, one_of
from experiments.runs.command_line.settings import CheckedSettings

DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class FigureSettings(CheckedSettings):
    """Formats of figures."""

    vector: Annotated[str | None, one_of(("pdf", "svg"))] = None
    """Also write every figure in this vector format, next to its PNG file."""


@dataclass(frozen=True, kw_only=True)
class FolderSettings(FigureSettings):
    """Where the run is kept."""

    out: Path | None = None
    """Folder of the run."""
    resume: bool = False
    """Continue the run in --out."""
    overwrite: bool = False
    """Replace a run in --out."""

    def __post_init__(self) -> None:
        """Check every field, and that a run is not both continued and replaced."""
        super().__post_init__()
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other: give one of them")


@dataclass(frozen=True, kw_only=True)
class ComputingSettings(CheckedSettings):
    """How the run is computed."""

    dtype: Annotated[str, one_of(("float32", "float64"))] = "float32"
    """Precision of learning; errors are always measured in float64."""
    compile: Annotated[str, one_of(("auto", "on", "off"))] = "auto"
    """auto: compile if the number of steps is large enough."""
    seed: Annotated[int, count(0)] = 0
    """Seed of all randomness. On the CPU of one machine, the same seed and --compile give the same
    result to the bit."""
    device: Annotated[str, one_of(DEVICES)] = "auto"
    """Where everything learns; auto is a GPU if there is one."""
    measure_on: Annotated[str, one_of(("device", "host"))] = "device"
    """device: measure errors on --device; host: on the CPU, which many GPUs are slower than in
    float64."""
    deterministic: bool = False
    """On a GPU: the same seed gives the same result to the bit, by slower kernels."""


def stored(settings: CheckedSettings) -> dict[str, Any]:
    """Return settings as they are written down and compared on resume.

    All but those of their folder and of the formats of figures.
    """
    left_out = ("out", "resume", "overwrite", "vector")
    return {name: value for name, value in asdict(settings).items() if name not in left_out}
