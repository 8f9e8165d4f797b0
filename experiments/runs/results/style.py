"""How figures look and how they are written: a style file, colours, PNG and vector files."""

import functools
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from experiments.runs.folder.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE_FILE = Path(__file__).with_name("figures.mplstyle")
# Okabe & Ito's colours, told apart by colour-blind readers, the yellow darkened for white paper.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#AA4499"
SKY, ORANGE, YELLOW, GREY = "#56B4E9", "#E69F00", "#B5A800", "#555555"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, SKY, ORANGE, YELLOW, GREY)
# A rule keeps its colour from figure to figure where no other of the same figure needs it.
PREFERRED = {
    "tdc": BLUE,
    "td": VERMILLION,
    "tdrc": GREEN,
    "generalized": PURPLE,
    "gtd2": SKY,
    "htd": ORANGE,
    "etd": YELLOW,
    "residual": GREY,
}
# Up to this ratio of two values numbers such as 0.02 are written at a logarithmic axis.
FEW_DECADES = 200.0
LINES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1)))

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class RuleStyle(NamedTuple):
    """The colour and the line of a rule."""

    colour: str
    line: Any


def rule_styles(rules: Sequence[str]) -> dict[str, RuleStyle]:
    """Return a colour and a line for each rule, none alike; well-known rules keep their colour."""
    styles: dict[str, RuleStyle] = {}
    for rule in rules:
        if rule in PREFERRED:
            styles[rule] = RuleStyle(PREFERRED[rule], LINES[0])
    free = [
        RuleStyle(colour, line)
        for line in LINES
        for colour in COLOURS
        if RuleStyle(colour, line) not in styles.values()
    ]
    others = [rule for rule in rules if rule not in styles]
    for index, rule in enumerate(others):
        styles[rule] = free[index % len(free)]
    return styles


def import_matplotlib() -> None:
    """Import what figures are drawn with, beforehand."""
    for module in ("matplotlib.figure", "matplotlib.backends.backend_agg", "matplotlib.style"):
        importlib.import_module(module)


def styled(draw: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Return a drawing function that draws in the style of the file."""

    @functools.wraps(draw)
    def drawn(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        from matplotlib.style import context

        with context(["default", STYLE_FILE]):
            return draw(*args, **kwargs)

    return drawn


def logarithmic(axes: "Axes", low: float, high: float) -> None:
    """Make the vertical axis logarithmic, with plain numbers where it has few decades.

    low, high: the smallest and the largest value that is drawn, above 0
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    if high > FEW_DECADES * low:
        return
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


@styled
def save_figure(figure: "Figure", path: Path, vector: str | None = None) -> None:
    """Write a figure in the format of its path's suffix, and with `vector` (pdf, svg) in that too.

    Raises OSError where a file cannot be written; an older one is then still there.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # No pyplot: it would look for a display and keep every figure.
    FigureCanvasAgg(figure)
    for each in (path, *([path.with_suffix(f".{vector}")] if vector else [])):
        with atomic_write(each) as partial:
            figure.savefig(partial, format=each.suffix.lstrip(".").lower() or "png")
