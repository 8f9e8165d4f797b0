"""The house: floors import downwards, names have one address, and the door is light."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the lowest floor up; programs and benchmarks are next to each other on the highest.
FLOORS = {"neural_tdc": 0, "envs": 1, "agents": 2, "experiments": 3, "benchmarks": 3}
LIBRARIES = {"torch", "numpy", "jaxtyping"}
FILES = {floor: sorted((ROOT / floor).rglob("*.py")) for floor in FLOORS}
# Benchmarks are programs of their own, which share nothing.
HOUSE = [path for floor in FLOORS if floor != "benchmarks" for path in FILES[floor]]
# The modules that open the library to its users: their names are public ones of other modules.
DOORS = {"neural_tdc", "neural_tdc.split_rates"}


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


def defined(source, private=False):
    """Return the names that a module defines at its top level, the public ones alone by default."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            targets = [name for target in node.targets for name in ast.walk(target)]
            names |= {name.id for name in targets if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if private or not name.startswith("_")}


def module_name(path):
    """Return the name that a file is imported by."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def borrowed(source, homes):
    """Return what a source imports from a module that does not define it.

    homes: {module: the names that it defines}
    """
    return {
        f"{node.module}.{alias.name}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module in homes
        for alias in node.names
        if node.module not in DOORS
        and f"{node.module}.{alias.name}" not in homes
        and alias.name not in homes[node.module]
    }


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_from_itself_and_from_those_below(floor):
    assert FILES[floor]
    wrong = {
        str(path.relative_to(ROOT)): found
        for path in FILES[floor]
        if (found := wrong_imports(floor, path.read_text(encoding="utf-8")))
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("floor", "source", "expected"),
    [
        ("neural_tdc", "import envs.finite.tables", {"envs.finite.tables"}),
        ("neural_tdc", "def f():\n    from agents import dqn", {"agents"}),
        ("neural_tdc", "import gymnasium, torch.nn, math", {"gymnasium"}),
        ("neural_tdc", "from scipy.stats import bootstrap", {"scipy.stats"}),
        ("neural_tdc", "from . import rules", {"."}),
        ("envs", "from experiments.runs.loading import run", {"experiments.runs.loading"}),
        ("envs", "import gymnasium\nfrom neural_tdc.rules.registry import RULES", set()),
        ("agents", "from envs.finite.standard_problems import boyan", set()),
        ("experiments", "import benchmarks.learner", {"benchmarks.learner"}),
        ("benchmarks", "from agents import policy_evaluation", set()),
    ],
)
def test_a_wrong_import_is_found_wherever_it_is(floor, source, expected):
    assert wrong_imports(floor, source) == expected


def test_no_public_name_is_defined_in_two_modules():
    addresses = defaultdict(list)
    for path in HOUSE:
        for name in defined(path.read_text(encoding="utf-8")):
            addresses[name].append(str(path.relative_to(ROOT)))
    assert len(addresses) > 500
    assert {name: paths for name, paths in addresses.items() if len(paths) > 1} == {}


def test_a_name_is_imported_from_where_it_is_defined():
    sources = {path: path.read_text(encoding="utf-8") for path in HOUSE}
    homes = {module_name(path): defined(source, True) for path, source in sources.items()}
    found = {
        str(path.relative_to(ROOT)): names
        for path, source in sources.items()
        if (names := borrowed(source, homes))
    }
    assert found == {}


def test_names_are_seen_however_they_are_defined():
    source = "A, I = 1, 2\nB: int = 2\n_c = 3\ndef d(): e = 4\nclass F: g = 5\nfrom x import h"
    assert defined(source) == {"A", "B", "d", "F", "I"}
    homes = {"x": {"h"}, "x.y": {"_c"}}
    assert borrowed("from x import h, y\nfrom x.y import _c\nfrom z import g", homes) == set()
    assert borrowed("def f():\n    from x.y import h", homes) == {"x.y.h"}


def rooms_reached(edges, start):
    """Return every room that imports lead to from one, in any number of steps."""
    found, waiting = set(), [start]
    while waiting:
        fresh = edges.get(waiting.pop(), set()) - found
        found |= fresh
        waiting += fresh
    return found


def test_imports_between_the_rooms_of_the_programs_go_in_no_circle():
    files = {module_name(path): path for path in FILES["experiments"]}
    edges = defaultdict(set)
    for path in files.values():
        for name in imported(path.read_text(encoding="utf-8")) & set(files):
            edges[path.parent].add(files[name].parent)
    assert len(edges) > 15
    beyond = {room: rooms - {room} for room, rooms in edges.items()}
    assert [str(room) for room in beyond if room in rooms_reached(beyond, room)] == []


def test_a_circle_of_rooms_is_found():
    assert rooms_reached({"a": {"b"}, "b": {"c"}, "c": {"b"}}, "a") == {"b", "c"}


def loaded_by(statement):
    """Return the modules that are loaded in a fresh process after a statement."""
    program = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return set(done.stdout.split())


def test_importing_the_library_loads_no_environment_no_figure_and_no_compiler():
    # The check of a body differentiates it, as an update does.
    loaded = loaded_by(
        "import neural_tdc, torch; from neural_tdc.networks.validation import check_body; "
        "check_body(torch.nn.Linear(3, 2), torch.ones(2, 3))"
    )
    assert "neural_tdc" in loaded
    unwanted = {
        *(set(FLOORS) - {"neural_tdc"}),
        *("gymnasium", "matplotlib", "tensorboard", "scipy", "sklearn", "ale_py", "ray"),
        *("beartype", "hypothesis", "pytest", "sympy"),
        *("torch._inductor", "torch._dynamo"),
    }
    assert loaded & unwanted == set()


def test_help_and_a_usage_error_load_no_figure_no_events_no_statistics_and_no_compiler():
    programs = [path.parent.name for path in (ROOT / "experiments").glob("*/__main__.py")]
    assert len(programs) == 9
    loaded = loaded_by("; ".join(f"import experiments.{name}.__main__" for name in programs))
    unwanted = {
        *("matplotlib", "tensorboard", "scipy.stats", "sklearn", "ale_py", "ray"),
        *("torch._inductor", "torch._dynamo", "torch.utils.tensorboard"),
    }
    assert loaded & unwanted == set()


def test_nothing_under_tests_is_a_package():
    # A package `tests.envs` would stand in front of `envs`.
    assert [str(path) for path in (ROOT / "tests").rglob("__init__.py")] == []


def test_one_module_knows_the_compiler_of_torch():
    paths = (ROOT / "neural_tdc").rglob("*.py")
    known = {path.name for path in paths if "_inductor" in path.read_text(encoding="utf-8")}
    assert known == {"private_compiler.py"}
