"""Updates on a device that is not the CPU: compiled where its compiler can, started by graphs.

Not compiled, they are what they are on the CPU: one after another.
"""

import warnings
from collections.abc import Callable
from typing import Any

from neural_tdc.compiled.compilation import compile_repeatable
from neural_tdc.compiled.cuda_graphs import device_loop

Repeat = Callable[[Any, int], Any]


def device_program(
    function: Callable[[Any, Any], Any], carried: Any, constant: Any
) -> Callable[[Any, Any, int], Any] | None:
    """Compile and call `function(carried, constant)` once; None, with a warning, where that fails.

    What is compiled for a device goes through a second compiler (Triton), which has faults of its
    own: version 3.6 cannot compile a kernel of emphatic TD with RMSProp where values that several
    loops read are stored, which is for the vectors of a CPU.
    """
    try:
        program = compile_repeatable(function, carried, constant)
        program(carried, constant, 1)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        warnings.warn(
            f"the updates cannot be compiled for this device and run without: {said}",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return program


def device_updates(
    function: Callable[[Any, Any], Any],
    carried: Any,
    constant: Any,
    *,
    compiled: bool,
    graphs: bool = True,
) -> Repeat:
    """Return what repeats `function(carried, constant) -> carried` on a device.

    On the CPU for what is not compiled; `compile_repeatable` is for the rest.

    carried, constant: trees of tensors on the device, of the shapes that all calls will have
    compiled: compile the function
    graphs:   start updates by CUDA graphs, where the device has them

    The result takes (carried, number of calls) and returns what is carried after them.
    """
    program = device_program(function, carried, constant) if compiled else None

    def once(carried: Any) -> Any:
        return function(carried, constant) if program is None else program(carried, constant, 1)

    loop = device_loop(once, carried) if graphs else None
    if loop is not None:
        return loop

    def repeat(carried: Any, calls: int) -> Any:
        for _ in range(calls):
            carried = once(carried)
        return carried

    return repeat
