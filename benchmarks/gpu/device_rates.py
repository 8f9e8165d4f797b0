"""The rates of the device that everything else is compared with."""

import torch

from benchmarks.gpu.record import Record
from benchmarks.gpu.timing import Setting, best_seconds


def measure_device(record: Record, setting: Setting) -> dict[str, float]:
    """Return the copy rate in bytes a second and the matrix rates in operations a second."""
    device, small = setting.device, setting.small
    source = torch.ones(2**18 if small or not setting.on_gpu else 2**28, device=device)
    target = torch.empty_like(source)
    rates = {"copy": 8 * source.numel() / best_seconds(lambda: target.copy_(source), setting)}
    size = 128 if small or not setting.on_gpu else 8192
    for name, dtype in (
        ("float32", torch.float32),
        ("tf32", torch.float32),
        ("bf16", torch.bfloat16),
        ("float64", torch.float64),
    ):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        one = best_seconds(lambda left=left, right=right: left @ right, setting)
        rates[name] = 2 * size**3 / one
    torch.backends.cuda.matmul.allow_tf32 = False
    few = target[:8]
    starts = 100
    start = best_seconds(lambda: [few.add_(1) for _ in range(starts)], setting) / starts
    record.row(
        "device",
        name=torch.cuda.get_device_name(device) if setting.on_gpu else "cpu",
        torch=torch.__version__,
        copy_gigabytes_per_second=rates["copy"] / 1e9,
        **{f"{name}_teraflops": rates[name] / 1e12 for name in list(rates)[1:]},
        operation_microseconds=1e6 * start,
    )
    return rates
