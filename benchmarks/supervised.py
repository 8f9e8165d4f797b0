"""Updates per second of a supervised population: python -m benchmarks.supervised.

Three arms of learning rates with several seeds learn as one population, by RMSProp in float32. The
time includes the draw of the batches. In one call the population is compared with one run at a
time, a usual module with autograd and `torch.optim.RMSprop`, and with the rate of a large matrix
product. Machines are noisy, so every number is the best of several time windows, in which the
programs alternate. Compare ratios, not absolute numbers.
"""

import platform
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from benchmarks.command_line import (
    CommandLine,
    existing_device,
    result_file,
    whole_number,
    write_results,
)
from benchmarks.machine import matrix_window, seconds
from neural_tdc.learning.optimisers import part_optimizers
from neural_tdc.learning.projections import projection
from neural_tdc.learning.schedules import schedule
from neural_tdc.networks.activations import CLOSED_FORM_ACTIVATIONS
from neural_tdc.networks.mlp_population import (
    CROSS_ENTROPY,
    SQUARED,
    NetworkObjective,
    initial_networks,
)
from neural_tdc.randomness import keys
from neural_tdc.split_rates import parameter_groups
from neural_tdc.stackelberg.supervised import (
    Learning,
    Rates,
    Samples,
    initial_supervised_state,
    supervised_updates,
)

ARMS = ("split", "body-rate", "head-rate")
RATES = Rates(1e-4, 1e-3)


class Case(NamedTuple):
    """A task's sizes: units of input, layers and output; samples; batch; seeds of each arm."""

    sizes: tuple[int, ...]
    samples: int
    batch: int
    seeds: int

    @property
    def runs(self) -> int:
        """Return the size of the population."""
        return len(ARMS) * self.seeds

    @property
    def products(self) -> list[tuple[int, int, int]]:
        """Return the products (rows, inner, columns) of one update of one run."""
        found = []
        for depth, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            found += [(self.batch, inputs, outputs), (inputs, self.batch, outputs)]
            if depth:
                found.append((self.batch, outputs, inputs))
        return found

    @property
    def operations(self) -> int:
        """Return multiplications and additions of one update of one run."""
        return sum(2 * rows * inner * columns for rows, inner, columns in self.products)


CASES = {
    "friedman": Case((10, 64, 1), 1000, 32, 20),
    "boston": Case((13, 64, 1), 404, 32, 20),
    "mnist": Case((784, 128, 64, 10), 10_000, 128, 10),
    "cifar10": Case((3072, 128, 64, 10), 5_000, 128, 3),
}


def _samples(case: Case, device: torch.device) -> Samples:
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(case.samples, case.sizes[0], generator=source)
    if case.sizes[-1] == 1:
        target = torch.randn(case.samples, 1, generator=source)
    else:
        target = torch.randint(case.sizes[-1], (case.samples,), generator=source)
    first = torch.zeros(case.seeds, dtype=torch.int64)
    return Samples(inputs.to(device), target.to(device), first.to(device), case.samples)


def population(case: Case, compiled: bool, device: torch.device) -> Callable[[], None]:
    """Return a function that takes one update of a whole population."""
    loss = SQUARED if case.sizes[-1] == 1 else CROSS_ENTROPY
    objective = NetworkObjective(loss, CLOSED_FORM_ACTIVATIONS["relu"], 1e-4)
    learning = Learning(
        objective,
        ARMS,
        RATES,
        case.batch,
        part_optimizers("rmsprop"),
        schedule("constant"),
        projection("none"),
    )
    networks = initial_networks(case.sizes, 0, case.seeds)
    state = initial_supervised_state(learning, networks)
    if device.type != "cpu":
        state = torch.utils._pytree.tree_map(lambda leaf: leaf.to(device), state)
    key = keys(0, case.seeds, "batch").to(device)
    with torch.no_grad():
        advance = supervised_updates(
            learning, _samples(case, device), key, state, compiled=compiled
        )
    update = torch.zeros((), dtype=torch.int64, device=device)

    def go() -> None:
        nonlocal state, update
        with torch.no_grad():
            state, update = advance(state, update, 1)

    go()
    return go


def plain_loop(case: Case, device: torch.device) -> Callable[[], None]:
    """Return a function that takes one update of one run, as a user of torch would write it."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(case.sizes[:-1]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    head = nn.Linear(case.sizes[-2], case.sizes[-1], bias=False)
    module = nn.Sequential(*layers, head).to(device)
    groups = parameter_groups(module, body_lr=RATES.body, head_lr=RATES.head)
    optimizer = torch.optim.RMSprop(groups)
    criterion = nn.MSELoss() if case.sizes[-1] == 1 else nn.CrossEntropyLoss()
    data = _samples(case, device)

    def go() -> None:
        index = torch.randint(case.samples, (case.batch,), device=device)
        optimizer.zero_grad()
        loss = criterion(module(data.inputs[index]), data.target[index])
        (loss + 1e-4 / 2 * head.weight.square().sum()).backward()
        optimizer.step()

    go()
    return go


def bare_products(case: Case, device: torch.device) -> Callable[[], None]:
    """Return a function that does the products of one update of a population and nothing else."""
    pairs = [
        (
            torch.randn(case.runs, rows, inner, device=device),
            torch.randn(case.runs, inner, columns, device=device),
        )
        for rows, inner, columns in case.products
    ]

    def go() -> None:
        for left, right in pairs:
            torch.bmm(left, right)

    return go


def measured(cases: dict[str, Case], rounds: int, device: torch.device) -> list[dict[str, object]]:
    """Measure everything in interleaved windows; a row a case."""
    matrix = matrix_window(device)
    programs = {
        (name, kind): make
        for name, case in cases.items()
        for kind, make in (
            ("compiled", population(case, True, device)),
            ("eager", population(case, False, device)),
            ("plain", plain_loop(case, device)),
            ("products", bare_products(case, device)),
        )
    }
    repeats = {
        each: max(1, int(0.03 / max(seconds(go, 1, device), 1e-6))) for each, go in programs.items()
    }
    best: dict[tuple[str, str], float] = {}
    rate = 0.0
    for _ in range(rounds):
        rate = max(rate, matrix())
        for each, go in programs.items():
            best[each] = min(best.get(each, float("inf")), seconds(go, repeats[each], device))
    rows = []
    for name, case in cases.items():
        compiled, eager, plain, products = (
            best[name, kind] for kind in ("compiled", "eager", "plain", "products")
        )
        fastest = min(compiled, eager)
        rows.append(
            {
                "task": name,
                "sizes": "-".join(map(str, case.sizes)),
                "batch": case.batch,
                "runs": case.runs,
                "compiled_microseconds": compiled * 1e6,
                "eager_microseconds": eager * 1e6,
                "plain_microseconds_a_run": plain * 1e6,
                "times_one_at_a_time": case.runs * plain / fastest,
                "share_of_matrix_rate": case.runs * case.operations / fastest / rate,
                "share_of_its_bare_products": products / fastest,
                "matrix_operations_per_second": rate,
            }
        )
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Return the rows as a table for the screen."""
    head = ("task", "sizes", "batch", "runs", "compiled µs", "eager µs", "one run µs", "× one run",
            "of matrix rate", "of its products")  # fmt: skip
    lines = ["{:>9} {:>15} {:>5} {:>4} {:>11} {:>9} {:>10} {:>9} {:>14} {:>15}".format(*head)]
    for row in rows:
        lines.append(
            f"{row['task']:>9} {row['sizes']:>15} {row['batch']:>5} {row['runs']:>4} "
            f"{row['compiled_microseconds']:>11,.0f} {row['eager_microseconds']:>9,.0f} "
            f"{row['plain_microseconds_a_run']:>10,.0f} {row['times_one_at_a_time']:>9.1f} "
            f"{row['share_of_matrix_rate']:>14.0%} {row['share_of_its_bare_products']:>15.0%}"
        )
    rate = rows[0]["matrix_operations_per_second"]
    lines.append(
        f"matrix product of 1024 × 1024: {rate / 1e9:.0f} Gop/s, "  # type: ignore[operator]
        f"{torch.get_num_threads()} threads"
    )
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark, print the table and write the JSON."""
    parser = CommandLine("supervised", __doc__)
    parser.add_argument(
        "--task", nargs="+", default=list(CASES), choices=list(CASES), help="shapes of these tasks"
    )
    parser.add_argument(
        "--rounds", type=whole_number(), default=20, help="time windows of each program"
    )
    parser.add_argument("--device", type=existing_device, default="cpu", help="cpu or cuda")
    parser.add_argument(
        "--out",
        type=result_file,
        default=Path("runs/bench-supervised.json"),
        help="file of the results, JSON",
    )
    options = parser.parse_args()
    torch.manual_seed(0)
    cases = {name: CASES[name] for name in options.task}
    rows = measured(cases, options.rounds, options.device)
    machine = {"machine": platform.processor() or platform.machine(), "torch": torch.__version__}
    write_results(options.out, {**machine, "rows": rows})
    print(table(rows))


if __name__ == "__main__":
    main()
