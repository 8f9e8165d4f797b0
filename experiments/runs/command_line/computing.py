"""What a run is computed with: the device, the precision, threads, memory, compiled or not."""

import contextlib
import ctypes
import os
import sys

import torch

from experiments.runs.command_line.checks import UsageError
from neural_tdc.cores import available_cores

# Options of `mallopt` of the C library of GNU; the first one may be at most 2^25 bytes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
# Numbers in a population's state below which one thread is faster than several.
WORTH_THREADS = 2**18
NO_COMPILER = "there is no C++ compiler here (for a GPU: no Triton or no C compiler)"


def resolve_device(value: str, *, tf32: bool = False, deterministic: bool = False) -> torch.device:
    """Return the device of `auto`, `cpu` or `cuda`, and set how a GPU computes.

    tf32, deterministic: see `set_arithmetic`

    Raises UsageError for a device that is not there.
    """
    present = torch.cuda.is_available()
    if value == "cuda" and not present:
        built = torch.version.cuda
        reason = (
            f"no CUDA device is visible to torch {torch.__version__}"
            if built
            else f"torch {torch.__version__} is built without CUDA"
        )
        raise UsageError(f"--device cuda cannot be used: {reason}; use --device cpu or auto")
    device = torch.device("cuda" if value == "cuda" or (value == "auto" and present) else "cpu")
    if device.type == "cuda":
        set_arithmetic(tf32, deterministic)
    return device


def set_arithmetic(tf32: bool, deterministic: bool) -> None:
    """Set how a GPU computes in this process; call it before the first of its kernels.

    tf32:          whether products in float32 may round their factors to 10 bits of mantissa.
                   torch's own default is yes for convolutions and no for matrices.
    deterministic: whether kernels whose sums have no fixed order are replaced by slower ones; torch
                   warns of one that has no replacement
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    # Memory that is written before it is read needs no fill.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False
    if deterministic:
        # Both are read once, when a library and the compiler are first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"


def limit_threads() -> None:
    """Let torch use no more threads than this process may use cores, see `neural_tdc.cores`."""
    cores = available_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)


def keep_memory() -> None:
    """Let the allocator of Linux keep up to 256 MB that was freed, for what is made next.

    It gives large tensors back to the system at once, which fills each new page with zeros: a
    quarter of the time of measuring.
    """
    if sys.platform == "linux":
        # Another C library than that of GNU has no such function.
        with contextlib.suppress(AttributeError):
            allocator = ctypes.CDLL(None)
            for option, size in ((_MMAP_THRESHOLD, 2**25), (_TRIM_THRESHOLD, 2**28)):
                allocator.mallopt(option, size)


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
        return False, f"warning: --compile on: {NO_COMPILER}, so the run is eager"
    return choice != "off" and available and (choice == "on" or worth), None
