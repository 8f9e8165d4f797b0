"""The parts of a network: its head, its submodules by name, the layers of its body."""

import difflib

from torch import Tensor, nn

# torch.compile wraps a module and prefixes the names inside it.
_COMPILED_PREFIX = "_orig_mod."


def plain_name(name: str) -> str:
    """Return a name inside a module without the prefix that `torch.compile` adds."""
    return f"{name}.".replace(_COMPILED_PREFIX, "").removesuffix(".")


def parameter_names(module: nn.Module) -> dict[int, list[str]]:
    """Return all names of every parameter, by its id: a tied parameter has more than one."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        known = names.setdefault(id(parameter), [])
        if plain_name(name) not in known:
            known.append(plain_name(name))
    return names


def last_linear(module: nn.Module) -> tuple[str, nn.Linear]:
    """Return name and layer of the last `nn.Linear` of a module, in the order of registration.

    The order is that of `module.named_modules()`: attributes as `__init__` assigned them, a child's
    own layers before the next child. It is the order of the forward pass for every network that
    registers its layers as it uses them; name the head of any other network. Subclasses of
    `nn.Linear` count; the projection inside `nn.MultiheadAttention` does not. The name is the one
    inside the module itself, without the prefix that `torch.compile` adds.

    Raises ValueError where there is no linear layer.
    """
    inside_attention = {
        id(layer)
        for attention in module.modules()
        if isinstance(attention, nn.MultiheadAttention)
        for layer in attention.modules()
    }
    found = [
        (plain_name(name), layer)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and id(layer) not in inside_attention
    ]
    if not found:
        raise ValueError(
            f"{type(module).__name__} has no nn.Linear layer to be its head; name the submodule "
            "that must learn at the head's rate"
        )
    return found[-1]


def find_head(module: nn.Module, head: str | nn.Module | None) -> tuple[str, nn.Module]:
    """Return name and module of the head: given by name, as a submodule, or the last linear layer.

    Raises ValueError for a head that is not in the module, with the nearest names, or has no
    parameters.
    """
    if head is None:
        return last_linear(module)
    if isinstance(head, nn.Module):
        for name, layer in module.named_modules():
            if layer is head:
                found = plain_name(name), layer
                break
        else:
            raise ValueError(
                f"the head, a {type(head).__name__}, is not a submodule of {type(module).__name__}"
            )
    else:
        found = head, find_submodule(module, head, "head")
    if next(found[1].parameters(), None) is None:
        raise ValueError(f"the head {found[0]!r} has no parameters")
    return found


def find_submodule(module: nn.Module, name: str, role: str) -> nn.Module:
    """Return a submodule by its name.

    role: what the submodule is to be, for the message
    Raises ValueError with the nearest names where there is none; the module itself is none.
    """
    # named_modules lists the compiled wrapper before the module it wraps, under the same plain name
    submodules = {plain_name(own): layer for own, layer in module.named_modules()}
    if name and name in submodules:
        return submodules[name]
    names = [own for own in submodules if own]
    nearest = difflib.get_close_matches(name, names, n=3, cutoff=0.4) or names[-3:]
    listed = ", ".join(repr(own) for own in nearest) or "none, it has no submodules"
    raise ValueError(
        f"{type(module).__name__} has no submodule {name!r} to be its {role}; nearest: {listed}"
    )


def body_layers(module: nn.Module, head: nn.Module) -> list[list[nn.Module]]:
    """Return the layers of a body from input to output, each a list of modules.

    Layers are the children of the module in the order of registration. Instead of a container, of a
    module with a `ModuleList` among its children, and of a module that holds the head, its own
    children are taken. A child without a matrix, such as a normalisation, belongs to the layer
    before it.
    """
    layers: list[list[nn.Module]] = []
    seen: set[int] = set()
    for layer in _unfolded(module, head):
        tensors: list[Tensor] = list(layer.parameters())
        if not tensors or id(layer) in seen:
            continue
        seen.add(id(layer))
        if layers and all(tensor.ndim < 2 for tensor in tensors):
            layers[-1].append(layer)
        else:
            layers.append([layer])
    return layers


def _unfolded(module: nn.Module, head: nn.Module) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in module.children():
        if child is head:
            continue
        opened = (
            isinstance(child, nn.Sequential | nn.ModuleList | nn.ModuleDict)
            or any(isinstance(inner, nn.ModuleList) for inner in child.children())
            or any(inner is head for inner in child.modules())
        )
        found += _unfolded(child, head) if opened else [child]
    return found
