"""What a run is computed with: the device, the precision, threads, compiled or not."""

import torch

from experiments.runs.command_line.checks import UsageError

# Numbers in a population's state below which one thread is faster than several.
WORTH_THREADS = 2**18


def resolve_device(value: str) -> torch.device:
    """Return the device of `auto`, `cpu` or `cuda`; UsageError for one that is not there."""
    present = torch.cuda.is_available()
    if value == "cuda" and not present:
        built = torch.version.cuda
        reason = (
            f"no CUDA device is visible to torch {torch.__version__}"
            if built
            else f"torch {torch.__version__} is built without CUDA"
        )
        raise UsageError(f"--device cuda cannot be used: {reason}; use --device cpu or auto")
    return torch.device("cuda" if value == "cuda" or (value == "auto" and present) else "cpu")


def torch_dtype(name: str) -> torch.dtype:
    """Return the dtype of `float32` or `float64`."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def threads_for(numbers: int) -> int:
    """Return the number of threads for a state of so many numbers: in small kernels they wait."""
    return 1 if numbers < WORTH_THREADS else torch.get_num_threads()


def compilation(choice: str, *, worth: bool, available: bool) -> tuple[bool, str | None]:
    """Decide by --compile whether to compile; the second value is a warning, if there is one.

    worth:  whether the job is large enough for `auto`
    """
    if choice == "on" and not available:
        return False, "warning: --compile on: there is no C++ compiler here, so the run is eager"
    return choice != "off" and available and (choice == "on" or worth), None
