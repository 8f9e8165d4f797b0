"""The devices that the library learns on; any other one is refused in one line."""

import torch

SUPPORTED = ("cpu", "cuda", "meta")


def checked_device(device: torch.device | str) -> torch.device:
    """Return the device; raise ValueError where the library cannot learn on it.

    Errors are measured in float64 and random draws are hashes of 64-bit integers, which Apple's
    `mps` does not have; `xpu` was never tried. `meta` is for tests.
    """
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in SUPPORTED:
        raise ValueError(f"device {str(device)!r} is not supported: use 'cpu' or 'cuda'")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f"device {str(device)!r} is not there: torch sees {count} CUDA devices")
    return found
