"""A floor of the house imports from the floors below it only, and the lowest one from little."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the lowest floor up; programs and benchmarks stand side by side on the highest.
FLOORS = {"neural_tdc": 0, "envs": 1, "agents": 2, "experiments": 3, "benchmarks": 3}
LIBRARIES = {"torch", "numpy", "jaxtyping"}
ALL = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def imported(source):
    """Return the modules that a source imports, wherever in it; relative ones begin with a dot."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add("." * node.level + (node.module or ""))
    return modules


def wrong_imports(floor, source):
    """Return the modules that a source on this floor must not import."""
    wrong = set()
    for module in imported(source):
        top = module.partition(".")[0]
        relative = module.startswith(".")
        higher = FLOORS.get(top, -1) > FLOORS[floor]
        neighbour = FLOORS.get(top) == FLOORS[floor] and top != floor
        foreign = floor == "neural_tdc" and not (
            top in LIBRARIES or top == floor or top in sys.stdlib_module_names
        )
        if relative or higher or neighbour or foreign:
            wrong.add(module)
    return wrong


def test_all_floors_are_there():
    assert {path.relative_to(ROOT).parts[0] for path in ALL} >= set(FLOORS) - {"benchmarks"}
    assert len(ALL) > 40


@pytest.mark.parametrize("path", ALL, ids=[str(path.relative_to(ROOT)) for path in ALL])
def test_a_module_imports_from_its_own_floor_and_those_below(path):
    floor = path.relative_to(ROOT).parts[0]
    assert wrong_imports(floor, path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    ("floor", "source", "expected"),
    [
        ("neural_tdc", "import envs.finite.finite_mdp", {"envs.finite.finite_mdp"}),
        ("neural_tdc", "def f():\n    from agents import dqn", {"agents"}),
        ("neural_tdc", "import gymnasium, torch.nn, math", {"gymnasium"}),
        ("neural_tdc", "from scipy.stats import bootstrap", {"scipy.stats"}),
        ("neural_tdc", "from . import rules", {"."}),
        ("envs", "from experiments.runs.files import write", {"experiments.runs.files"}),
        ("envs", "import gymnasium\nfrom neural_tdc.rules.registry import RULES", set()),
        ("agents", "from envs.finite.finite_mdp import boyan", set()),
        ("experiments", "import benchmarks.learner", {"benchmarks.learner"}),
        ("benchmarks", "from agents import policy_evaluation", set()),
    ],
)
def test_a_wrong_import_is_found_wherever_it_stands(floor, source, expected):
    assert wrong_imports(floor, source) == expected


def loaded_by(statement):
    """Return the modules that are loaded in a fresh process after a statement."""
    program = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.split())


def test_importing_the_library_loads_no_environment_no_figure_and_no_compiler():
    loaded = loaded_by("import neural_tdc")
    assert "neural_tdc" in loaded
    unwanted = {
        *(set(FLOORS) - {"neural_tdc"}),
        *("gymnasium", "matplotlib", "tensorboard", "scipy", "sklearn", "ale_py", "ray"),
        *("beartype", "hypothesis", "pytest"),
        *("torch._inductor", "torch._dynamo"),
    }
    assert loaded & unwanted == set()


def test_nothing_under_tests_is_a_package():
    # A package `tests.envs` would stand in front of `envs`.
    assert [str(path) for path in (ROOT / "tests").rglob("__init__.py")] == []
