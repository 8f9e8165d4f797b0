"""Updates repeated by CUDA graphs: the host starts a recording of kernels in place of every kernel.

An update of small networks has tens of kernels of a few microseconds each, and to start one takes
the host as long. A graph records the kernels of some updates once and starts them all by one call.
Shapes and addresses are those of the recording: what changes from update to update lies in tensors
that stay where they are. Source: the CUDA graphs of torch,
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

# Updates in one graph: what is carried is copied to its place once for all of them.
UNROLLED = 10
# Calls before a recording: libraries and compiled programs prepare themselves in the first ones.
WARM_UPS = 3

Work = Callable[[], None]


@contextmanager
def on_side_stream(device: torch.device) -> Iterator[None]:
    """Use another stream of the device, as what is recorded later must not have used the main one.

    Does nothing on the CPU.
    """
    if device.type != "cuda":
        yield
        return
    stream, main = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    stream.wait_stream(main)
    with torch.cuda.stream(stream):
        yield
    main.wait_stream(stream)


def captured(work: Work, device: torch.device) -> Work:
    """Record the kernels of `work` without running them; return what runs them all.

    work: must have run before, ask the device for nothing, and read and write the same tensors
        each time

    Raises RuntimeError where it cannot be recorded.
    """
    graph = torch.cuda.CUDAGraph()
    # Other threads may go on using the device meanwhile.
    with torch.cuda.device(device), torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def warn_without_graph(error: Exception) -> None:
    """Say that updates are started one kernel at a time, and why."""
    said = " ".join(str(error).split())[:200]
    warnings.warn(
        f"the updates cannot be recorded as a CUDA graph and run slower without it: {said}",
        RuntimeWarning,
        stacklevel=3,
    )


def write_into(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors to their places, also where a source is the place of another one."""
    held = {target.untyped_storage().data_ptr() for target in targets}
    kinds: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
    for target, source in zip(targets, sources, strict=True):
        if source.data_ptr() == target.data_ptr() and source.stride() == target.stride():
            continue
        elsewhere = source.untyped_storage().data_ptr() not in held
        # In one call a dtype: lists of several dtypes are copied one tensor at a time.
        places, contents = kinds.setdefault(target.dtype, ([], []))
        places.append(target)
        contents.append(source if elsewhere else source.clone())
    for places, contents in kinds.values():
        torch._foreach_copy_(places, contents)


def graph_loop(
    function: Callable[[Any], Any],
    carried: Any,
    capture: Callable[[Work, torch.device], Work] = captured,
) -> Callable[[Any, int], Any] | None:
    """Return what repeats `function(carried) -> carried` by CUDA graphs, or None with a warning.

    carried: a tree of tensors on one device, of the shapes that all calls will have
    capture: what records

    The result takes (carried, number of calls) and returns what is carried after them. One thread
    at a time may call it.
    """
    leaves, structure = tree_flatten(carried)
    device = leaves[0].device
    static = [leaf.clone() for leaf in leaves]

    def updates(times: int) -> Work:
        def work() -> None:
            now = tree_unflatten(static, structure)
            for _ in range(times):
                now = function(now)
            write_into(static, tree_leaves(now))

        return work

    with torch.no_grad():
        with on_side_stream(device):
            for _ in range(WARM_UPS):
                updates(1)()
        try:
            single, many = capture(updates(1), device), capture(updates(UNROLLED), device)
        except RuntimeError as error:
            warn_without_graph(error)
            return None

    def repeat(carried: Any, calls: int) -> Any:
        with torch.no_grad():
            write_into(static, tree_leaves(carried))
            for _ in range(calls // UNROLLED):
                many()
            for _ in range(calls % UNROLLED):
                single()
            return tree_unflatten([leaf.clone() for leaf in static], structure)

    return repeat


def device_loop(function: Callable[[Any], Any], carried: Any) -> Callable[[Any, int], Any] | None:
    """Return `graph_loop` where what is carried lies on a GPU, and None elsewhere."""
    on_gpu = tree_leaves(carried)[0].device.type == "cuda"
    return graph_loop(function, carried) if on_gpu else None
