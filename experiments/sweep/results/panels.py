"""What all figures of a study have in common: panels next to one another, titles and a legend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from experiments.runs.results.style import rule_styles
from experiments.sweep.results.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 4.2
HEIGHT = 3.1
# Panels next to one another.
PANELS_A_ROW = 3


def panel_grid(panels: int) -> "tuple[Figure, list[Axes]]":
    """Return a figure of so many panels, and their axes."""
    from matplotlib.figure import Figure

    columns = min(panels, PANELS_A_ROW)
    lines = -(-panels // columns)
    figure = Figure((WIDTH * columns, HEIGHT * lines + 0.6), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for unused in axes[panels:]:
        unused.set_axis_off()
    return figure, axes[:panels]


def panel_title(panel: tuple[str, str], rows: Sequence[Row]) -> str:
    """Return the title of a panel; the sampling is in it where the rows have several."""
    problem, sampling = panel
    several = len({row.cell.sampling for row in rows}) > 1
    return f"{problem}, {sampling}" if several else problem


def rule_legend(figure: "Figure", rules: Sequence[str], lost: bool) -> None:
    """Put a legend of the rules below the panels; lost: whether marks of divergence are in it."""
    from matplotlib.lines import Line2D

    styles = rule_styles(rules)
    handles = [
        Line2D([], [], color=styles[rule].colour, linestyle=styles[rule].line, label=rule)
        for rule in rules
    ]
    if lost:
        marks: dict[str, Any] = {"color": "#555555", "linestyle": "none"}
        handles += [
            Line2D([], [], marker="o", fillstyle="none", label="some runs diverged", **marks),
            Line2D([], [], marker="x", label="all runs diverged", **marks),
        ]
    place_legend(figure, handles)


def place_legend(figure: "Figure", handles: Sequence[Any]) -> None:
    """Put a legend below the panels, in as many columns as the figure is wide."""
    longest = max(len(str(handle.get_label())) for handle in handles)
    # Inches of a label and of its line, at the usual size of print.
    columns = int(figure.get_figwidth() // (0.085 * longest + 0.65))
    columns = min(len(handles), max(1, columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
