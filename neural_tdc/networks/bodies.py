"""Bodies, heads, and what makes an `nn.Module` one of them.

A body is any module that is, in eval mode, a pure function of its parameters: observation in,
feature vector out. `feature_map` turns it into `features(body, observation)`, the only form in
which the learning rules see it.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from neural_tdc.randomness import generator
from neural_tdc.split_rates import last_linear

Body = dict[str, Tensor]
FeatureMap = Callable[[Body, Tensor], Tensor]
MakeBody = Callable[[tuple[int, ...]], nn.Module]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}


class Constant(nn.Module):
    """Append a constant feature 1, the bias of a linear head that has none."""

    def forward(self, features: Float[Tensor, "batch feature"]) -> Tensor:
        """Return [batch, feature + 1]."""
        return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1)


def mlp(
    observation_shape: Sequence[int],
    features: int = 16,
    hidden: Sequence[int] = (32,),
    activation: str = "tanh",
    constant: bool = False,
) -> nn.Module:
    """Build a fully connected body with the activation after every layer, the last included.

    With `constant` one of the features is the constant 1. Smooth activations are those for which
    the theory of Algorithm 1 is claimed; ReLU is not among them.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}")
    learned = features - constant
    if learned < 1 or any(size < 1 for size in hidden):
        raise ValueError(f"a body needs at least one unit a layer, not {[*hidden, learned]}")
    sizes = [math.prod(observation_shape), *hidden, learned]
    layers: list[nn.Module] = [nn.Flatten()] if len(observation_shape) != 1 else []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, *([Constant()] if constant else []))


def _atari_body(
    observation_shape: Sequence[int], convolutions: list[nn.Module], width: int
) -> nn.Module:
    trunk = nn.Sequential(*convolutions, nn.Flatten())
    with torch.no_grad():
        flat = trunk(torch.zeros(1, *observation_shape)).shape[1]
    return nn.Sequential(*trunk, nn.Linear(flat, width), nn.ReLU())


def paper_atari(observation_shape: Sequence[int], features: int = 256) -> nn.Module:
    """Build the paper's Atari body: one convolution and one fully connected layer, ReLU.

    The head is the second fully connected layer. Kernel, stride, channels and width are a
    reconstruction (the paper names the layers only): the first layer of DQN's network of 2013.
    """
    return _atari_body(
        observation_shape,
        [nn.Conv2d(observation_shape[0], 16, kernel_size=8, stride=4), nn.ReLU()],
        features,
    )


def nature_atari(observation_shape: Sequence[int], features: int = 512) -> nn.Module:
    """Build the body of "Human-level control through deep reinforcement learning" (Mnih 2015)."""
    channels = observation_shape[0]
    return _atari_body(
        observation_shape,
        [
            nn.Conv2d(channels, 32, kernel_size=8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, kernel_size=4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, kernel_size=3, stride=1),
            nn.ReLU(),
        ],
        features,
    )


BODIES: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "paper_atari": paper_atari,
    "nature_atari": nature_atari,
}


def split(module: nn.Module) -> tuple[list[str], list[str]]:
    """Split the parameters of a whole network: names of the body's, names of the head's.

    The head is the last linear layer. Raises ValueError where there is none.
    """
    name, _ = last_linear(module)
    head = [full for full, _ in module.named_parameters() if full.rpartition(".")[0] == name]
    body = [full for full, _ in module.named_parameters() if full not in head]
    return body, head


def feature_map(module: nn.Module) -> FeatureMap:
    """Return `features(body, observation) -> [batch, d]`, a pure function of the body.

    A rule may keep parameters of its own in `body` beside the module's: they are passed over.
    """
    module = module.eval()
    names = [name for name, _ in module.named_parameters()]
    buffers = dict(module.named_buffers())

    def features(body: Body, observation: Tensor) -> Tensor:
        reference = body[names[0]]
        state = {name: body[name] for name in names}
        for name, buffer in buffers.items():
            state[name] = buffer.to(
                device=reference.device,
                dtype=reference.dtype if buffer.is_floating_point() else buffer.dtype,
            )
        return functional_call(module, state, (observation,))

    return features


def given_features(body: Body, observation: Tensor) -> Tensor:
    """Return the observation itself: the features of a problem that gives them."""
    return observation


def initial_bodies(
    make_body: MakeBody, observation_shape: tuple[int, ...], seed: int, runs: int
) -> tuple[nn.Module, Body]:
    """Make one body a run: a module, and all parameters with a leading run axis (on the CPU).

    Run i depends on (seed, i) only; buffers, such as a layer drawn once and not learned, are those
    of the first run for all. PyTorch's modules draw their initial values from the global
    generator, so it is set for each run and put back afterwards.
    """
    modules = []
    with torch.random.fork_rng(devices=[]):
        for run in range(runs):
            # `torch.manual_seed` would also set the generators of devices, which are not put back.
            torch.default_generator.manual_seed(generator(seed, "body", run).initial_seed())
            modules.append(make_body(observation_shape))
    _check_layers(modules[0])
    bodies = [{name: p.detach() for name, p in module.named_parameters()} for module in modules]
    if not bodies[0]:
        raise ValueError(f"--body: {type(modules[0]).__name__} has no parameters to learn")
    stacked = {name: torch.stack([body[name] for body in bodies]) for name in bodies[0]}
    return modules[0], stacked


def check_body(module: nn.Module, observation: Tensor) -> int:
    """Try a body on a population of two and return its number of features.

    observation: [batch, *observation] in the dtype to learn in, with batch at least 2.

    Raises ValueError in one line that names the module, or the layer, and what it does wrong.
    """
    name = type(module).__name__
    _check_layers(module)
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
            value, pull_back = torch.func.vjp(lambda body: features(body, observation), body)  # type: ignore[misc]
            return value, pull_back(torch.ones_like(value))[0]

        def batched(observation: Tensor) -> Tensor:
            return torch.vmap(gradient)(pair, torch.stack([observation, observation]))[0][0]

        found = []
        for batch in (observation, observation[-1:]):
            try:
                found.append(batched(batch))
            except Exception as error:
                raise ValueError(
                    f"--body: layer {_culprit(module, batched, batch) or repr(name)} does not work "
                    f"under torch.vmap: {_first_line(error)}"
                ) from error
        among_others, alone = found
        again = features(body, observation)
    tolerance = 1e-4 * (1 + single.abs().max())
    if not bool(torch.isfinite(single).all()):
        raise ValueError(f"--body: {name} returns features that are not finite")
    if (single - again).abs().max() > 0 or (among_others - single).abs().max() > tolerance:
        raise ValueError(
            f"--body: {name} is not a pure function of its parameters: "
            "two calls on the same observation differ"
        )
    if (alone - single[-1:]).abs().max() > tolerance:
        raise ValueError(
            f"--body: {name} mixes the observations of a batch: "
            "the features of one depend on the others"
        )
    return single.shape[1]


def _check_layers(module: nn.Module) -> None:
    """Raise ValueError for a layer whose parameters are not what it computes with."""
    for path, layer in module.named_modules():
        label = path or type(module).__name__
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
            raise ValueError(f"--body: layer {label!r} is lazy: give its sizes")
        if hasattr(layer, "parametrizations") or _has_spectral_norm(layer):
            raise ValueError(
                f"--body: layer {label!r} is parametrized (spectral or weight norm): "
                "it is not a pure function of its parameters under vmap"
            )


def _has_spectral_norm(layer: nn.Module) -> bool:
    """Tell whether the older `torch.nn.utils.spectral_norm`, a hook, is at work on the layer."""
    return any(type(hook).__name__ == "SpectralNorm" for hook in layer._forward_pre_hooks.values())


def _tried(features: FeatureMap, body: Body, observation: Tensor, name: str) -> Tensor:
    """Return the features; raise ValueError where there are none or they have a wrong shape."""
    try:
        tried = features(body, observation)
    except Exception as error:
        dtype = str(observation.dtype).removeprefix("torch.")
        raise ValueError(
            f"--body: {name} cannot take observations of shape {tuple(observation.shape[1:])} "
            f"in {dtype}: {_first_line(error)}"
        ) from error
    if not isinstance(tried, Tensor) or tried.dim() != 2 or len(tried) != len(observation):
        shape = tuple(tried.shape) if isinstance(tried, Tensor) else type(tried).__name__
        raise ValueError(
            f"--body: {name} must return features of shape [{len(observation)}, d], not {shape}"
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


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
