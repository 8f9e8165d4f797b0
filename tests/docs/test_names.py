"""Files, modules and flags that the pages and the newest changes name exist."""

import re
from pathlib import Path

import pytest

from experiments.compare_dqn.settings import ComparisonSettings
from experiments.convergence.settings import ConvergenceSettings
from experiments.evaluate_policy.settings.evaluation_settings import EvaluationSettings
from experiments.landscape.settings import LandscapeSettings
from experiments.plot.settings import PlotSettings
from experiments.runs.command_line.settings import setting_fields
from experiments.sweep.settings.sweep_settings import SweepSettings
from experiments.train_dqn.settings import DQNSettings
from experiments.train_supervised.settings import SupervisedSettings
from experiments.two_step.settings import TwoStepSettings
from tests.page_commands import PAGES, ROOT

SETTINGS = (
    *(ComparisonSettings, ConvergenceSettings, EvaluationSettings, LandscapeSettings),
    *(PlotSettings, SweepSettings, DQNSettings, SupervisedSettings, TwoStepSettings),
)
# Of other programs; and one that an entry of the changes says to be gone.
OTHER_FLAGS = {"--help", "--logdir", "--head", "--port", "--no-double"}
FOLDERS = "neural_tdc|envs|agents|experiments|tests|benchmarks|docs"
# The newest changes, and the pages without files that a reader writes, and without Slurm's flags.
NOT_OURS = re.compile(r"```(?:py|diff)\n.*?```|^#SBATCH.*?$", re.DOTALL | re.MULTILINE)
TEXTS = {page: NOT_OURS.sub("", PAGES[page]) for page in PAGES}
TEXTS["CHANGELOG.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]


def flags() -> set[str]:
    """Return all flags of the programs and of the benchmarks."""
    found = set(OTHER_FLAGS)
    for settings in SETTINGS:
        for setting in setting_fields(settings).values():
            found |= {setting.flag, "--no" + setting.flag[1:]}
    for path in (ROOT / "benchmarks").rglob("*.py"):
        found |= set(re.findall(r'"(--[\w-]+)"', path.read_text(encoding="utf-8")))
    return found


def module_and_rest(dotted: str) -> tuple[Path, list[str]]:
    """Return the file of the longest part of a name that is a module, and the rest of the name."""
    place, rest = ROOT, dotted.split(".")
    while rest and (place / rest[0]).is_dir():
        place /= rest.pop(0)
    if rest and (place / f"{rest[0]}.py").exists():
        return place / f"{rest.pop(0)}.py", rest
    return place / "__init__.py", rest


@pytest.mark.parametrize("page", TEXTS)
def test_what_a_page_names_exists(page):
    text, folder = TEXTS[page], (ROOT / page).parent
    files = re.findall(r"(?<![\w/.])([\w.-]+/[\w./-]*\.(?:py|toml|md|ipynb|mplstyle))\b", text)
    files += re.findall(rf"`((?:{FOLDERS})/[\w/.-]*)`", text)
    for name in files:
        assert (ROOT / name).exists() or (folder / name).exists(), name
    for dotted in re.findall(rf"(?<![\w./])((?:{FOLDERS})(?:\.\w+)+)", text):
        module, rest = module_and_rest(dotted)
        source = module.read_text(encoding="utf-8") if module.exists() else ""
        assert all(re.search(rf"\b{part}\b", source) for part in rest), dotted
        assert f"python -m {dotted}" not in text or not rest
    named = set(re.findall(r"(?<![\w-])(--[a-z][\w-]*)", text))
    assert named <= flags()


def test_a_name_that_does_not_exist_would_be_found():
    assert module_and_rest("neural_tdc.rules.heads.TdHead")[1] == ["TdHead"]
    assert module_and_rest("experiments.sweep.nowhere")[1] == ["nowhere"]
    assert "--head-step" in flags()
    assert "--head-steep" not in flags()
