"""The check of a body: a module that is, in eval mode, a pure function of its parameters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from neural_tdc.messages import first_line
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.types import Body, FeatureMap
from neural_tdc.vector_jacobian import vjp


def check_body(module: nn.Module, observation: Tensor) -> int:
    """Try a body on a population of two and return its number of features.

    observation: [batch, *observation] in the dtype to learn in, with batch at least 2.

    Raises ValueError in one line that names the module, or the layer, and what it does wrong.
    """
    name = type(module).__name__
    check_layers(module)
    module = module.eval()
    features = feature_map(module)
    body = {name: p.detach().to(observation) for name, p in module.named_parameters()}
    # As in the learner, where a layer may take another path than with gradients switched on.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        single = _tried(features, body, observation, name)
        # Errors are measured in double precision.
        double = {name: tensor.double() for name, tensor in body.items()}
        _tried(features, double, observation.double(), name)
        pair = {name: torch.stack([p, p]) for name, p in body.items()}

        def gradient(body: Body, observation: Tensor) -> tuple[Tensor, Body]:
            value, pull_back = vjp(lambda body: features(body, observation), body)
            return value, pull_back(torch.ones_like(value))[0]

        def batched(observation: Tensor) -> Tensor:
            return torch.vmap(gradient)(pair, torch.stack([observation, observation]))[0][0]

        found = []
        for batch in (observation, observation[-1:]):
            try:
                found.append(batched(batch))
            except Exception as error:
                raise ValueError(
                    f"body: layer {_culprit(module, batched, batch) or repr(name)} does not work "
                    f"under torch.vmap: {first_line(error)}"
                ) from error
        among_others, alone = found
        again = features(body, observation)
    tolerance = 1e-4 * (1 + single.abs().max())
    if not bool(torch.isfinite(single).all()):
        raise ValueError(f"body: {name} returns features that are not finite")
    if (single - again).abs().max() > 0 or (among_others - single).abs().max() > tolerance:
        raise ValueError(
            f"body: {name} is not a pure function of its parameters: "
            "two calls on the same observation differ"
        )
    if (alone - single[-1:]).abs().max() > tolerance:
        raise ValueError(
            f"body: {name} mixes the observations of a batch: "
            "the features of one depend on the others"
        )
    return single.shape[1]


def check_layers(module: nn.Module) -> None:
    """Raise ValueError for a layer whose parameters are not what it computes with."""
    for path, layer in module.named_modules():
        label = path or type(module).__name__
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
            raise ValueError(f"body: layer {label!r} is lazy: give its sizes")
        if _keeps_statistics(layer):
            raise ValueError(
                f"body: layer {label!r} ({type(layer).__name__}) normalises nothing here: its "
                "statistics stay what they were at the start (use LayerNorm or GroupNorm)"
            )
        if hasattr(layer, "parametrizations") or _has_spectral_norm(layer):
            raise ValueError(
                f"body: layer {label!r} is parametrized (spectral or weight norm): "
                "it is not a pure function of its parameters under vmap"
            )


def _has_spectral_norm(layer: nn.Module) -> bool:
    """Tell whether the older `torch.nn.utils.spectral_norm`, a hook, is at work on the layer."""
    return any(type(hook).__name__ == "SpectralNorm" for hook in layer._forward_pre_hooks.values())


def _keeps_statistics(layer: nn.Module) -> bool:
    """Tell whether a layer normalises by statistics of what it saw in training mode."""
    return isinstance(layer, _NormBase) and layer.track_running_stats


def _tried(features: FeatureMap, body: Body, observation: Tensor, name: str) -> Tensor:
    """Return the features; raise ValueError where there are none or they have a wrong shape."""
    try:
        tried = features(body, observation)
    except Exception as error:
        dtype = str(observation.dtype).removeprefix("torch.")
        raise ValueError(
            f"body: {name} cannot take observations of shape {tuple(observation.shape[1:])} "
            f"in {dtype}: {first_line(error)}"
        ) from error
    if not isinstance(tried, Tensor) or tried.dim() != 2 or len(tried) != len(observation):
        shape = tuple(tried.shape) if isinstance(tried, Tensor) else type(tried).__name__
        raise ValueError(
            f"body: {name} must return features of shape [{len(observation)}, d], not {shape}"
        )
    return tried


def _culprit(module: nn.Module, failing: Callable[[Tensor], Any], observation: Tensor) -> str:
    """Name the innermost layer that is running when `failing` fails."""
    running: list[str] = []
    hooks = []
    for path, layer in module.named_modules():
        label = f"{path} ({type(layer).__name__})" if path else type(layer).__name__
        hooks.append(layer.register_forward_pre_hook(lambda *_, label=label: running.append(label)))
        hooks.append(layer.register_forward_hook(lambda *_: running.pop() and None))
    try:
        failing(observation)
    except Exception:
        return repr(running[-1]) if running else ""
    finally:
        for hook in hooks:
            hook.remove()
    return ""
