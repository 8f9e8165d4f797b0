"""Modes that watch what an update does on a device that has no numbers, and count its kernels."""

import collections

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default)
# Of linear algebra, what waits for nothing. `linalg.solve` and its like look at an error code that
# their forms with `_ex` leave on the device; decompositions iterate on the host.
LINEAR_ALGEBRA = {
    "linalg_cross",
    "linalg_householder_product",
    "linalg_lu",
    "linalg_lu_solve",
    "linalg_solve_triangular",
    "linalg_vector_norm",
    "_linalg_det",
    "_linalg_slogdet",
}
# What else asks the device for numbers there, although it does not on "meta".
WAITS = {"cholesky", "cholesky_solve", "multinomial", "geqrf", "ormqr", "linalg_pinv"}
# What makes a tensor of the host's numbers.
MAKERS = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
# Numbers in float64 that an update in float32 may make: what Adam's corrections take.
DOUBLES = 8
# What starts no kernel although it returns no view.
FREE = {
    "alias",
    "detach",
    "empty",
    "empty_like",
    "empty_strided",
    "lift_fresh",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
    "_record_function_enter_new",
    "_record_function_exit",
}


def name_of(function):
    """Return the name of an operation without its namespace."""
    return function._schema.name.partition("::")[2]


def waits(function):
    """Tell whether an operation waits for a device to answer."""
    name = name_of(function)
    algebra = name.startswith(("linalg_", "_linalg_")) and not name.endswith("_ex")
    return name in WAITS or (algebra and name not in LINEAR_ALGEBRA)


def is_view(function):
    """Tell whether what an operation returns is a part of what it takes."""
    returned = function._schema.returns
    return any(each.alias_info and not each.alias_info.is_write for each in returned)


class _HostNumbers(TorchFunctionMode):
    """Raise where a tensor on a device is made of numbers of the host, which it waits for."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in MAKERS and not isinstance(args[-1], torch.Tensor):
            like = args[0] if function is torch.Tensor.new_tensor else None
            device = kwargs.get("device") or (like.device if like is not None else "cpu")
            if torch.device(device).type != "cpu":
                raise AssertionError(f"{function.__name__} brings numbers of the host")
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            if args[0].device.type != "cpu" and any(
                isinstance(each, list) or hasattr(each, "__array_interface__") for each in index
            ):
                raise AssertionError("an index of the host is brought to the device")
        return function(*args, **kwargs)


class OneDevice(TorchDispatchMode):
    """Raise where an operation takes tensors of two devices, numbers excepted, or waits.

    waits:   let pass what waits for the device
    copies:  let pass what copies from one device to another
    doubles: numbers in float64 that one operation may make on a device; None for any
    """

    def __init__(self, waits=False, copies=False, doubles=None):
        super().__init__()
        self.waits, self.copies, self.doubles = waits, copies, doubles
        self._entered = []

    def __enter__(self):
        if not self.waits:
            self._entered.append(_HostNumbers())
            self._entered[-1].__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        if not self.waits:
            self._entered.pop().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        devices = {tensor.device.type for tensor in tensors if tensor.dim() > 0}
        if function in COPIES:
            # A single number as well: it is brought from memory that a device waits for.
            devices = {tensor.device.type for tensor in tensors}
            devices |= {torch.device(kwargs["device"]).type} if kwargs.get("device") else set()
        if len(devices) > 1 and not (self.copies and function in COPIES):
            raise AssertionError(f"{function} takes tensors of {' and '.join(sorted(devices))}")
        if not self.waits and waits(function):
            raise AssertionError(f"{function} waits for the device")
        found = function(*args, **kwargs)
        if self.doubles is not None and not is_view(function):
            for leaf in tree_leaves(found):
                double = isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64
                if double and leaf.device.type != "cpu" and leaf.numel() > self.doubles:
                    raise AssertionError(f"{function} makes {leaf.numel()} numbers in float64")
        return found


class Starts(TorchDispatchMode):
    """Count what starts a kernel, {operation: times}: all but views and empty memory."""

    def __init__(self):
        super().__init__()
        self.found = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if not is_view(function) and name_of(function) not in FREE:
            self.found[name_of(function)] += 1
        return function(*args, **(kwargs or {}))
