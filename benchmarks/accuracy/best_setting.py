"""A choice that knows the problem but not the log: python -m benchmarks.accuracy.best_setting.

On every log of a problem, all LSTD candidates of `auto` learn. Then, for each log, the setting with
the least error on the *other* logs of the same problem is taken, on the geometric mean and by their
true values. No method that sees one log alone can know so much about the settings. Its error on the
log, divided by that of the log's own best candidate, is what the randomness of a single log costs.
`auto` (LSTD candidates only) stands beside it, on the same logs.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.accuracy.cases import DESIGNED, Case, made_case
from benchmarks.accuracy.criteria import candidate_errors
from benchmarks.accuracy.problems import PROBLEMS
from benchmarks.accuracy.table import geometric_mean, rows_of_markdown, with_interval
from benchmarks.command_line import CommandLine, whole_number, write_results
from neural_tdc.baselines.log_preparation import ordered_stream
from neural_tdc.baselines.search.learned_candidates import learn_candidates, weighted_value
from neural_tdc.best_value import FOLDS, choose_candidates


def errors_of_log(case: Case, seed: int, width: int = 256) -> dict[str, float]:
    """Return the RMSVE of every candidate on one log by its setting, and that of `auto`."""
    candidates = learn_candidates(ordered_stream(case.stream), FOLDS, seed, width, 0)
    weights = choose_candidates(candidates, seed).weights
    chosen = weighted_value(candidates, weights)(case.observation)
    squared = float(case.weighting @ (chosen - case.value).square()) - case.noise
    names = [json.dumps([family, settings]) for family, settings in candidates.names]
    errors = candidate_errors(candidates, case).nan_to_num(torch.inf, torch.inf)
    return {**dict(zip(names, errors.tolist(), strict=True)), "auto": max(squared, 0.0) ** 0.5}


def best_of_other_logs(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return, for each log, the error of the setting that is best on the other logs.

    errors: [log, setting], infinite where a setting diverged
    """
    logs = np.log(np.maximum(errors, 1e-9))
    others = [np.delete(logs, row, axis=0).sum(0).argmin() for row in range(len(errors))]
    return errors[np.arange(len(errors)), others]


def relative_errors(logs: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return the errors of both choices over those of each log's own best candidate."""
    settings = [name for name in logs[0] if name != "auto"]
    errors = np.array([[log[name] for name in settings] for log in logs])
    least = errors.min(1)
    auto = np.array([log["auto"] for log in logs])
    return {
        "setting": (best_of_other_logs(errors) / least).tolist(),
        "auto": (auto / least).tolist(),
    }


def main() -> None:
    """Run what is not there yet and print the table."""
    parser = CommandLine("accuracy.best_setting", __doc__)
    parser.add_argument(
        "--problems",
        nargs="+",
        choices=(*PROBLEMS, *DESIGNED),
        default=list(PROBLEMS),
        metavar="PROBLEM",
        help="names of problems",
    )
    parser.add_argument("--logs", type=whole_number(2), default=6, help="logs of each problem")
    parser.add_argument(
        "--first-seed", type=whole_number(0), default=10, help="seed of the first log"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/best-setting"), help="folder of the results"
    )
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    columns = {
        "setting": "best setting of the other logs",
        "auto": "`auto`, LSTD candidates only",
    }
    lines = [["problem", *columns.values()]]
    means: dict[str, list[float]] = {name: [] for name in columns}
    for problem in arguments.problems:
        logs = []
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.logs):
            path = arguments.out / f"{problem.replace(' ', '-')}-{seed}.json"
            if not path.exists():
                print(f"{problem}, seed {seed}", flush=True)
                write_results(path, errors_of_log(made_case(problem, seed), seed))
            logs.append(json.loads(path.read_text()))
        relative = relative_errors(logs)
        lines.append([problem, *(with_interval(relative[name]) for name in columns)])
        for name in columns:
            means[name].append(geometric_mean(relative[name]))
    lines.append(["*all problems*", *(with_interval(means[name]) for name in columns)])
    print(
        f"\n{arguments.logs} logs of each problem from seed {arguments.first_seed}; error / least,"
    )
    print("geometric means with 95 % intervals (over logs; in the last row over problems)\n")
    print("\n".join(rows_of_markdown(lines)))


if __name__ == "__main__":
    main()
