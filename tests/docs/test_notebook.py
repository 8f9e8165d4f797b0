"""The notebook of the guide runs from its first cell to its last."""

import json
from pathlib import Path

import matplotlib

ROOT = Path(__file__).parents[2]


def test_the_notebook_runs_and_prints(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    matplotlib.use("Agg")
    cells = json.loads((ROOT / "docs/guide/runs.ipynb").read_text(encoding="utf-8"))["cells"]
    names = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "runs.ipynb", "exec"), names)
    out = capsys.readouterr().out
    assert set(names["runs"]) == {"td", "tdc"}
    final = names["runs"]["td"].summary["metrics"]["rmsve"]["final"]["mean"]
    assert f"td {final:.2f} [" in out
    # Five steps of each rule, and two controls.
    counted = dict(names["study"].results["rule"].value_counts())
    assert counted == {"td": 5, "tdc": 5, "constant": 1, "lstd-random": 1}
