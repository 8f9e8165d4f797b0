"""A device that has numbers although it is none: whole programs run on it as on a GPU, on the CPU.

Tensors on "meta" carry a tensor of the CPU here. What mixes them with tensors of the CPU raises, as
on a GPU, and `numpy()` needs a copy to the host first. What waits for the device is let pass: see
`tests.device_modes` for updates, which must not.
"""

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.byte_rows import ByteRows
from neural_tdc.learning.optimisers import _bias_corrections
from tests.device_modes import COPIES, MAKERS, name_of

DEVICE = torch.device("meta")
INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
# What learns, and what measures.
PRODUCTS = {"mm", "bmm", "mv", "addmm", "baddbmm", "addmv", "dot", "tanh", "cos"}


class There(torch.Tensor):
    """A tensor on the pretended device; `numbers` is what it holds, on the CPU."""

    @staticmethod
    def __new__(cls, numbers):
        """Return a tensor of the shape of what it holds."""
        return torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=DEVICE,
        )

    def __init__(self, numbers):
        self.numbers = numbers

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        """Compute on the CPU."""
        return NotImplemented if ByteRows in types else _computed(function, args, kwargs or {})


def _computed(function, args, kwargs):
    known, places = {}, set()

    def here(value):
        if isinstance(value, There):
            known[id(value.numbers)] = value
            places.add(DEVICE.type)
            return value.numbers
        if isinstance(value, torch.Tensor) and value.device == DEVICE:
            raise AssertionError(f"{function} takes a tensor without numbers")
        if isinstance(value, torch.Tensor) and value.dim() > 0:
            places.add(value.device.type)
        return torch.device("cpu") if isinstance(value, torch.device) and value == DEVICE else value

    def there(value):
        if isinstance(value, torch.Tensor):
            return known.get(id(value)) if id(value) in known else There(value)
        return value

    device = kwargs.get("device")
    inputs, options = tree_map(here, (args, kwargs))
    if len(places) > 1 and function not in COPIES:
        raise AssertionError(f"{function} takes tensors of {' and '.join(sorted(places))}")
    found = function(*inputs, **options)
    if known and torch.Tag.inplace_view in function.tags:
        # The shape that is seen changes with that of the numbers.
        with no_dispatch():
            before = torch._C._meta_in_tls_dispatch_include()
            torch._C._set_meta_in_tls_dispatch_include(True)
            try:
                function(*args, **kwargs)
            finally:
                torch._C._set_meta_in_tls_dispatch_include(before)
        return args[0]
    if function is COPIES[0]:
        return args[0]
    on_device = DEVICE.type in places if device is None else torch.device(device) == DEVICE
    if on_device and function is COPIES[1] and found is inputs[0]:
        found = found.clone()
    return tree_map(there, found) if on_device else found


class _Factories(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        # Rows of bytes know what is done without their numbers.
        return NotImplemented if ByteRows in types else _computed(function, args, kwargs or {})


class PretendedDevice(TorchFunctionMode):
    """Make "meta" a device with numbers while it is entered."""

    def __enter__(self):
        # Other tests leave tables of "meta" without numbers, and must not find those with numbers.
        _bias_corrections.cache_clear()
        self._factories = _Factories()
        self._factories.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._factories.__exit__(*error)
        _bias_corrections.cache_clear()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # These would make a tensor of "meta" without its numbers.
        if function in MAKERS:
            like = args[0].device if function is torch.Tensor.new_tensor else "cpu"
            device = torch.device(kwargs.get("device") or like)
            if device == DEVICE:
                return function(*args, **{**kwargs, "device": "cpu"}).to(DEVICE)
        if function in INDEXING and isinstance(args[0], There):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            index = tuple(torch.tensor(i).to(DEVICE) if isinstance(i, list) else i for i in index)
            args = (args[0], index, *args[2:])
        # Not there for tensors of a class of their own.
        if function is torch.Tensor.tolist:
            return args[0].cpu().tolist()
        return function(*args, **kwargs)


class ProductsThere(TorchDispatchMode):
    """Count features and their products on the device; raise where one is computed on the CPU.

    alone: let pass what is computed on the CPU if this is False
    """

    def __init__(self, alone=True):
        super().__init__()
        self.found, self.elsewhere, self.alone = 0, 0, alone

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if name_of(function) in PRODUCTS:
            places = {x.device.type for x in tree_leaves(args) if isinstance(x, torch.Tensor)}
            there = places == {DEVICE.type}
            assert there or not self.alone, f"{function} computes on {places}"
            self.found += there
            self.elsewhere += not there
        return function(*args, **(kwargs or {}))
