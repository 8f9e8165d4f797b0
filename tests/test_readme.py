"""The pages of the project: their Python is run, their commands are read, their links exist."""

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest

from experiments.compare_dqn.settings import read_comparison
from experiments.convergence.settings import ConvergenceSettings
from experiments.evaluate_policy.settings.evaluation_settings import read_evaluation_settings
from experiments.landscape.settings import read_landscape_settings
from experiments.plot.settings import PlotSettings
from experiments.runs.command_line.program import parse
from experiments.sweep.settings.study_file import read_sweep_settings
from experiments.train_dqn.reading import read_dqn_settings
from experiments.train_supervised.settings import read_supervised_settings
from experiments.two_step.settings import TwoStepSettings
from neural_tdc import __version__, step
from tests.page_commands import PAGES, ROOT, pieces

# What commands of the page have written is read when they are run too: `make pages`.
BLOCKS: dict[str, list[str]] = {
    page: blocks
    for page in PAGES
    if (blocks := [each.text for each in pieces(page) if each.python and '"runs/' not in each.text])
}
# These pages have tests of their own.
TESTED_ELSEWHERE = {
    "docs/guide/policies.md": "tests/experiments/evaluate_policy/parts/test_own_parts.py",
    "docs/own-parts.md": "tests/experiments/evaluate_policy/parts/test_own_parts.py",
    "docs/split-rates.md": "tests/neural_tdc/split_rates/test_recipes.py",
    "docs/stackelberg.md": "tests/neural_tdc/stackelberg/test_problems.py",
}
# Their own test runs the commands, some of them in a copy of the clone to which a part was added.
COMMANDS_RUN_ELSEWHERE = {"docs/guide/policies.md", "docs/own-parts.md", "docs/parts-by-name.md"}
# Algorithm 1 as it is shown: an excerpt of a module, compared with it below.
EXCERPT = "docs/algorithm.md"


@pytest.mark.parametrize("page", sorted(BLOCKS.keys() - TESTED_ELSEWHERE.keys() - {EXCERPT}))
def test_the_examples_of_a_page_run_one_after_the_other(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in BLOCKS[page]:
        exec(compile(block, page, "exec"), names)
        assert "print(" not in block or capsys.readouterr().out


@pytest.mark.parametrize(("page", "test"), TESTED_ELSEWHERE.items())
def test_a_page_that_is_tested_elsewhere_is_named_there(page, test):
    assert page in BLOCKS
    assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


def statements(function):
    """Return what a function does, line by line and in order, without its docstring."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return [ast.unparse(statement) for statement in body]


def test_algorithm_1_on_its_page_is_the_code_that_runs():
    (shown,) = BLOCKS[EXCERPT]
    (promised,) = ast.parse(shown).body
    (runs,) = ast.parse(inspect.getsource(step)).body
    assert statements(promised) == statements(runs)
    assert [each.arg for each in promised.args.args] == [each.arg for each in runs.args.args]


READERS = {
    "compare_dqn": read_comparison,
    "convergence": lambda argv: parse(ConvergenceSettings, argv),
    "evaluate_policy": read_evaluation_settings,
    "landscape": read_landscape_settings,
    "plot": lambda argv: parse(PlotSettings, argv),
    "sweep": read_sweep_settings,
    "train_dqn": read_dqn_settings,
    "train_supervised": read_supervised_settings,
    "two_step": lambda argv: parse(TwoStepSettings, argv),
}


def commands():
    """Return (page, program, its arguments) of every command on a line of its own."""
    found = []
    for page in sorted(PAGES.keys() - COMMANDS_RUN_ELSEWHERE):
        for _, command in filter(lambda piece: not piece.python, pieces(page)):
            if started := re.search(r"python -m experiments\.(\w+)(?: (.*))?$", command):
                program, arguments = started.groups()
                argv = shlex.split((arguments or "").replace("${SLURM_ARRAY_TASK_ID}", "1"))
                # The folders to merge must be there: `make pages` makes them.
                if "--merge" not in argv:
                    found.append((page, program, argv))
    return found


@pytest.mark.parametrize(("page", "program", "argv"), commands())
def test_a_command_of_a_page_is_one_that_its_program_takes(page, program, argv, monkeypatch):
    monkeypatch.chdir(ROOT)
    READERS[program](argv)


def test_commands_are_found_on_the_pages_that_have_them():
    found = commands()
    assert len(found) >= 30
    assert {program for _, program, _ in found} >= READERS.keys() - {"plot"}


def anchors(text):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_files_and_headings_that_a_page_links_to_exist(page):
    folder = (ROOT / page).parent
    for link, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", PAGES[page]):
        target = (folder / link).resolve() if link else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), anchor


def test_the_readme_is_short_and_links_to_every_page():
    readme = PAGES["README.md"]
    assert len(readme.splitlines()) <= 140
    links = set(re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", readme))
    assert PAGES.keys() - {"README.md"} - links == set()


def test_the_citation_has_the_version_of_the_library():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in citation
