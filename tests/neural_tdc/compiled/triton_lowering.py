"""What torch's compiler makes of an update for a GPU, without one: kernels in Triton, assembled.

The graph is traced on the CPU, its devices are changed, and the compiler is asked for its source
with tensors that have a device but no numbers. It needs a build of torch with CUDA, no driver.
"""

import re
from types import SimpleNamespace
from unittest import mock

import torch
from torch.utils._pytree import tree_leaves, tree_map

from neural_tdc.compiled.compilation import traced
from neural_tdc.compiled.private_compiler import compiler

DEVICE = torch.device("cuda", 0)
# What the compiler asks of a device, with the numbers of an H100.
PROPERTIES = SimpleNamespace(
    major=9,
    minor=0,
    multi_processor_count=132,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    name="none",
    total_memory=2**36,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    L2_cache_size=2**25,
    gcnArchName="",
)
SETTINGS = {
    "fx_graph_cache": False,
    "compile_threads": 1,
    # It computes numbers.
    "joint_graph_constant_folding": False,
    # One variant a kernel in place of several that a device would choose from.
    "triton.autotune_pointwise": False,
}
KERNEL = re.compile(r"async_compile\.triton\('(\w+)', '''(.*?)'''", re.DOTALL)


class _Generated(Exception):
    """Carries the source that the compiler made, before anything of it is loaded."""


def _moved(graph):
    """Change a graph's devices; return the tensors that it holds itself, as inputs from now on."""

    def there(value):
        return DEVICE if isinstance(value, torch.device) else value

    constants = []
    first = next(node for node in graph.graph.nodes if node.op != "placeholder")
    for node in list(graph.graph.nodes):
        node.args, node.kwargs = (tree_map(there, each) for each in (node.args, node.kwargs))
        if node.op == "get_attr":
            constants.append(getattr(graph, node.target))
            with graph.graph.inserting_before(first):
                given = graph.graph.placeholder(f"constant{len(constants)}")
            node.replace_all_uses_with(given)
            graph.graph.erase_node(node)
        node.meta = {}
    graph.recompile()
    return constants


def generated(function, carried, constant, **settings):
    """Return the source that the compiler makes of `function(carried, constant)` for a GPU."""
    inductor = compiler()
    import torch._inductor.graph as lowering
    import torch._inductor.scheduler as scheduler
    import torch.utils._triton as triton_support
    from torch._inductor.runtime.hints import DeviceProperties

    leaves = [x for x in tree_leaves((carried, constant)) if isinstance(x, torch.Tensor)]
    with torch.no_grad():
        graph = traced(function, carried, constant, inductor)
    constants = _moved(graph)
    original = lowering.GraphLowering.codegen

    def codegen(self):
        code = original(self)[0]
        raise _Generated(getattr(code, "value", code))

    properties = DeviceProperties("cuda", 0, 132, 90, 9, 65536, 2048, 1024, 32)
    fake = inductor.fake_mode()
    with (
        fake,
        mock.patch.object(torch.cuda, "get_device_properties", return_value=PROPERTIES),
        mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0)),
        mock.patch.object(torch.cuda, "current_device", return_value=0),
        mock.patch.object(DeviceProperties, "create", return_value=properties),
        mock.patch.object(triton_support, "triton_hash_with_backend", return_value="none"),
        mock.patch.object(scheduler, "has_triton", return_value=True),
        mock.patch.object(lowering.GraphLowering, "codegen", codegen),
        torch.no_grad(),
        inductor.settings({**SETTINGS, **settings}),
    ):
        inputs = [
            torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=DEVICE)
            for leaf in (*leaves, *constants)
        ]
        try:
            inductor.compile(graph, inputs)
        except Exception as error:
            found = error
            while found is not None and not isinstance(found, _Generated):
                found = found.__cause__ or found.__context__
            if found is None:
                raise
            return str(found.args[0])
    raise AssertionError("the compiler made no source")


def kernels(source):
    """Return the Triton kernels of a source, {name: source}."""
    return dict(KERNEL.findall(source))


def assembled(source):
    """Compile a Triton kernel for the device of `PROPERTIES` to its end; no device is asked."""
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.runtime import triton_helpers

    with mock.patch.object(triton_helpers, "set_driver_to_gpu"):
        for name, text in kernels(source).items():
            module = PyCodeCache.load(text)
            getattr(module, name).precompile(warm_cache_only=True)
