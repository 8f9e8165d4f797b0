"""The generated pages of the reference: command lines, metrics and the modules of the library."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neural_tdc

ROOT = Path(__file__).parents[1]
PROGRAMS = (
    "evaluate_policy",
    "sweep",
    "train_dqn",
    "compare_dqn",
    "train_supervised",
    "convergence",
    "landscape",
    "two_step",
    "plot",
)
# Where the settings are not in the module `settings` of the program.
SETTINGS = {
    "evaluate_policy": "evaluate_policy.settings.evaluation_settings",
    "sweep": "sweep.settings.sweep_settings",
}
ROOMS = {
    "The library": "neural_tdc",
    "Rules": "neural_tdc.rules",
    "Networks": "neural_tdc.networks",
    "Learning": "neural_tdc.learning",
    "Compiled updates": "neural_tdc.compiled",
    "Values of actions": "neural_tdc.action_values",
    "Metrics": "neural_tdc.metrics",
    "Baselines": "neural_tdc.baselines",
    "The search for the best value function": "neural_tdc.baselines.search",
    "Split learning rates": "neural_tdc.split_rates",
    "The Stackelberg objective": "neural_tdc.stackelberg",
    "Finite problems": "envs.finite",
    "Gymnasium problems": "envs.control",
    "Logged data": "envs.logs",
    "Games": "envs.games",
    "DQN": "agents.dqn",
}


def write(folder: Path) -> None:
    """Write the pages into a folder; a page that would not change is left alone."""
    pages = {"programs.md": "\n".join(_programs()), "metrics.md": "\n".join(_metrics())}
    names = []
    for title, package in ROOMS.items():
        name = package.replace(".", "-")
        names.append(name)
        pages[f"api-{name}.rst"] = "\n".join(_room(title, package))
    pages["api.md"] = "\n".join(_contents(names))
    folder.mkdir(exist_ok=True)
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _programs() -> Iterator[str]:
    from experiments.runs.command_line.settings import CheckedSettings

    yield "# Command lines"
    yield ""
    yield "Every program is started by `python -m experiments.NAME`. `--help` prints the same."
    for name in PROGRAMS:
        module = importlib.import_module(f"experiments.{SETTINGS.get(name, f'{name}.settings')}")
        kinds = [
            each
            for each in vars(module).values()
            if isinstance(each, type)
            and issubclass(each, CheckedSettings)
            and each.__module__ == module.__name__
            and each.program
        ]
        yield ""
        yield f"## {name}"
        for kind in kinds:
            yield ""
            yield kind.description()
            yield from _flags(kind, _defaults_in_words(name))


def _defaults_in_words(program: str) -> dict[str, str]:
    """Return {setting: its default} where that depends on the problem or the task."""
    from experiments.train_dqn.defaults import defaults_in_words
    from experiments.train_supervised.settings import usual_in_words

    if program == "train_dqn":
        return defaults_in_words()
    return usual_in_words() if program in ("train_supervised", "landscape") else {}


def _flags(kind: type, defaults: dict[str, str]) -> Iterator[str]:
    """Return the flags in tables, one for each of the classes that declare them, as --help does."""
    from experiments.runs.command_line.help_page import help_texts
    from experiments.runs.command_line.settings import setting_fields

    texts = help_texts(kind)
    settings = setting_fields(kind).values()
    for group in kind.__mro__:
        declared = [setting for setting in settings if setting.group is group]
        if not declared:
            continue
        yield ""
        if group is not kind:
            yield f"**{(group.__doc__ or '').partition('.')[0]}**"
            yield ""
        yield "| flag | default | meaning |"
        yield "|---|---|---|"
        for setting in declared:
            default = defaults.get(setting.name) or _shown(setting)
            cells = (f"`{setting.flag}`", default, texts[setting.name])
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _shown(setting: Any) -> str:
    default = setting.default
    if setting.kind is bool:
        return "on" if default else "off"
    if not isinstance(default, str | int | float | tuple | Path) or default == ():
        return ""
    return f"`{' '.join(map(str, default)) if setting.several else default}`"


def _metrics() -> Iterator[str]:
    from neural_tdc.metrics.registry import METRICS

    yield "# Metrics"
    yield ""
    yield "Names in `metrics.csv` and TensorBoard, and as keys of `summary.json`."
    yield ""
    yield "| metric | name in tables | unit | needs |"
    yield "|---|---|---|---|"
    for metric in METRICS.values():
        needs = ", ".join(need.replace("_", " ") for need in metric.needs)
        yield f"| `{metric.key}` | {metric.symbol} | {metric.unit} | {needs} |"


def _modules(package: str) -> Iterator[str]:
    """Return the modules of a room that have something public, without those of rooms below."""
    folder = ROOT / package.replace(".", "/")
    for path in sorted(folder.glob("*.py")):
        name = package if path.stem == "__init__" else f"{package}.{path.stem}"
        if path.stem != "__init__" and any(_public(path)):
            yield name


def _public(path: Path) -> Iterator[str]:
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name[0] != "_":
            yield statement.name


def _room(title: str, package: str) -> Iterator[str]:
    yield title
    yield "=" * len(title)
    for module in _modules(package):
        yield ""
        yield module
        yield "-" * len(module)
        yield ""
        yield f".. automodule:: {module}"
        yield "   :members:"


def _contents(names: list[str]) -> Iterator[str]:
    yield "# Python reference"
    yield ""
    exports = ", ".join(f"`{name}`" for name in sorted(neural_tdc.__all__))
    yield f"`neural_tdc` exports {exports}."
    yield "`envs` and `agents` are part of the clone, not of the installed library."
    yield ""
    yield "```{toctree}"
    yield from (f"api-{name}" for name in names)
    yield "```"
