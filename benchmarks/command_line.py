"""The command line of a benchmark: help with units and defaults, errors of one line."""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn


class _WithDefaults(argparse.RawDescriptionHelpFormatter):
    """Show the description as it is written, and the default of each flag that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default, text = action.default, action.help
        if not text or default in (None, False, argparse.SUPPRESS):
            return text
        words = map(str, default) if isinstance(default, (list, tuple)) else [str(default)]
        return f"{text} (default: {' '.join(words)})"


class CommandLine(argparse.ArgumentParser):
    """A parser that reports a usage error in one line, with exit status 2."""

    def __init__(self, name: str, description: str | None) -> None:
        super().__init__(
            prog=f"python -m benchmarks.{name}",
            description=description,
            formatter_class=_WithDefaults,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print the message with the flag that it is about, and end with status 2."""
        self.exit(2, f"error: {message.removeprefix('argument ')}\n")


def whole_number(least: int = 1) -> Callable[[str], int]:
    """Return the reader of a whole number of at least `least`, for `add_argument(type=…)`."""

    def read(text: str) -> int:
        number = int(text) if text.removeprefix("-").isdecimal() else None
        if number is None or number < least:
            raise argparse.ArgumentTypeError(
                f"{text} is not allowed: give a whole number of at least {least}"
            )
        return number

    return read


def add_population_flags(parser: argparse.ArgumentParser) -> None:
    """Add what is timed of populations: numbers of runs, batches, and time windows."""
    number = whole_number()
    parser.add_argument(
        "--runs", type=number, nargs="+", default=[1, 64, 1024, 4096], help="runs of a population"
    )
    parser.add_argument(
        "--batch", type=number, nargs="+", default=[1, 32], help="transitions per update"
    )
    parser.add_argument("--rounds", type=number, default=7, help="time windows of each program")


def existing_device(text: str) -> Any:
    """Return the `torch.device` of this name, and refuse one that is not there."""
    import torch

    if text.partition(":")[0] not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text} is not allowed: give cpu or cuda")
    if text != "cpu" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"{text}: there is no CUDA device; use cpu")
    return torch.device(text)


def result_file(text: str) -> Path:
    """Return the path of a file of results, and refuse one that cannot be written.

    Raises ArgumentTypeError, before anything is measured.
    """
    path = Path(text)
    above = next((each for each in path.absolute().parents if each.exists()), None)
    if path.is_dir() or above is None or not above.is_dir() or not os.access(above, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} cannot be written: give the name of a file")
    return path


def write_results(path: Path, results: Any) -> None:
    """Write results as JSON, in one step: another file first, which is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(results, indent=2) + "\n")
    part.replace(path)
