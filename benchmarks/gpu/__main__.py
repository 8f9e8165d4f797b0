"""All measurements on a GPU, in ten minutes: python -m benchmarks.gpu.

The program runs the tests that need a GPU. It measures populations of 1 to 65,536 runs (eager,
compiled, and as CUDA graphs), the copy rate and the matrix rate of the device, updates of the
network of Mnih et al. 2015 in float32, TF32 and bf16, the memory of the replay, the bits of two
runs, and a small study. Each row is written to OUT/gpu.jsonl when it is known. At the end all rows
are in OUT/gpu.json, and a table is in OUT/gpu.md. If a part fails, its row has the error, and the
other parts still run.

    python -m benchmarks.gpu --device cpu --small        tests the program itself without a GPU
    python -m benchmarks.gpu --wheels FOLDER             unpacks missing packages first
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command_line import CommandLine
from benchmarks.gpu.wheels import unpack_missing

PARTS = ("device", "tests", "populations", "updates", "bits", "study")
# Seconds that the tests may take of all.
TESTS = 150.0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandLine("gpu", __doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cuda or cpu")
    parser.add_argument("--small", action="store_true", help="use the small sizes of a test")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, help="run these parts alone"
    )
    parser.add_argument("--budget", type=float, default=560.0, help="seconds for all parts")
    parser.add_argument(
        "--wheels", type=Path, help="folder of wheels; packages that are missing are unpacked"
    )
    parser.add_argument("--digest", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run the parts; return the exit status, 2 where there is no such device."""
    options = _options(argv)
    if options.wheels is not None:
        try:
            found = unpack_missing(options.wheels, options.out / "packages")
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"unpacked: {', '.join(found) or 'nothing, all is installed'}")
    import torch

    from benchmarks.gpu.device_rates import measure_device
    from benchmarks.gpu.populations import learned_digest, measure_populations
    from benchmarks.gpu.programs import measure_bits, measure_study, measure_tests
    from benchmarks.gpu.q_networks import measure_q_networks
    from benchmarks.gpu.record import Record
    from benchmarks.gpu.table import text_table
    from benchmarks.gpu.timing import Setting

    if options.device == "cuda" and not torch.cuda.is_available():
        print("--device cuda: there is no CUDA device; try --device cpu --small", file=sys.stderr)
        return 2
    setting = Setting(torch.device(options.device), options.small)
    if options.digest:
        print(learned_digest(options.digest, setting))
        return 0
    # Precision as it is named: TF32 is a variant of its own.
    torch.backends.cudnn.allow_tf32 = False
    out = options.out
    record = Record(out / "gpu.jsonl", options.budget)
    rates: dict[str, float] = {}

    def device() -> None:
        rates.update(measure_device(record, setting))

    parts = {
        "device": device,
        "tests": lambda: measure_tests(record, setting, out, TESTS),
        "populations": lambda: measure_populations(record, setting, rates),
        "updates": lambda: measure_q_networks(record, setting),
        "bits": lambda: measure_bits(record, setting, out),
        "study": lambda: measure_study(record, setting, out),
    }
    for name in PARTS:
        if name in options.only:
            record.guarded(name, 10, parts[name])
    (out / "gpu.json").write_text(json.dumps(record.rows, indent=1) + "\n")
    table = text_table(record.rows)
    (out / "gpu.md").write_text(table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
