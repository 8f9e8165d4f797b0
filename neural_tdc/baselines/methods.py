"""The named methods: the best constant, LSTD(λ) on random features, regression on λ-returns.

`METHODS["lstd-random"]` is a method with its usual settings. A new method is one line of METHODS.
Stackelberg TD(λ) has a file of its own, `stackelberg_method`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.fitted import FittedPlan, fit_each_stream, network_block
from neural_tdc.baselines.held_out_ridge import ridge_head
from neural_tdc.baselines.linear_value import LinearValue
from neural_tdc.baselines.log_preparation import best_constant
from neural_tdc.baselines.method import Method, OnMethodProgress, check_updates
from neural_tdc.baselines.random_features import random_fourier, random_tanh
from neural_tdc.baselines.stackelberg_method import StackelbergTd
from neural_tdc.randomness import generator
from neural_tdc.rules.registry import RULES, listed_names
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Transition


@dataclass(frozen=True)
class BestConstant(Method):
    """The best constant, a control: LSTD(0) on nothing but the constant feature."""

    name: ClassVar[str] = "constant"
    passes: ClassVar[str] = "one pass"

    def learn(
        self, streams: Sequence[Transition], seed: int, on_progress: OnMethodProgress
    ) -> list[LinearValue]:
        """Return the constants; see `Method.learn`."""
        levels = [stream.reward.new_tensor([best_constant(stream)]) for stream in streams]
        return [LinearValue([], level) for level in levels]


@dataclass(frozen=True)
class _RandomFeatureLstd(Method):
    """LSTD(λ) on random features and a constant, the ridge chosen on held-out parts.

    trace_decay:     λ
    random_features: number of random features
    feature_scale:   length of the random projections, in deviations of the observations
    """

    passes: ClassVar[str] = "one pass, and one for the choice of the ridge"
    trace_decay: float = 0.9
    random_features: int = 256
    feature_scale: float = 2.0

    draw: ClassVar[Callable[..., Block]]

    def learn(
        self, streams: Sequence[Transition], seed: int, on_progress: OnMethodProgress
    ) -> list[LinearValue]:
        """Solve for the head of every stream, on features of its own; see `Method.learn`."""
        found = []
        for run, stream in enumerate(streams):
            source = generator(seed, self.name, run)
            inputs = stream.observation.shape[1]
            device = stream.observation.device
            block = self.draw(inputs, self.random_features, self.feature_scale, source, device)
            found.append(LinearValue([block], ridge_head([block], stream, self.trace_decay)))
            on_progress(run + 1, len(streams))
        return found


@dataclass(frozen=True)
class LstdRandom(_RandomFeatureLstd):
    """LSTD(λ) on random tanh features; see `_RandomFeatureLstd` for the settings."""

    name: ClassVar[str] = "lstd-random"
    draw = staticmethod(random_tanh)


@dataclass(frozen=True)
class LstdFourier(_RandomFeatureLstd):
    """LSTD(λ) on random Fourier features; see `_RandomFeatureLstd` for the settings."""

    name: ClassVar[str] = "lstd-fourier"
    draw = staticmethod(random_fourier)


@dataclass(frozen=True)
class FittedReturns(Method):
    """A network that is fitted to λ-returns, which are recomputed with the present network.

    trace_decay: λ; 1 is Monte Carlo regression, on-policy
    updates:     of Adam
    hidden:      units of the layers; the last layer's are the features
    """

    name: ClassVar[str] = "fitted"
    passes: ClassVar[str] = "`updates` batches of 128, and 40 passes for λ-returns"
    trace_decay: float = 0.95
    updates: int = 8_000
    hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        """Raise ValueError for a network that would not learn."""
        check_updates(self.updates)

    def learn(
        self, streams: Sequence[Transition], seed: int, on_progress: OnMethodProgress
    ) -> list[LinearValue]:
        """Fit one network for every stream; see `Method.learn`."""
        plan = FittedPlan(hidden=self.hidden, updates=self.updates)
        networks = fit_each_stream(
            streams, self.trace_decay, plan, seed, lambda done: on_progress(done, self.updates)
        )
        found = []
        for index in range(len(streams)):
            block, head = network_block(networks, index)
            found.append(LinearValue([block], torch.cat([head, torch.zeros_like(head[:1])])))
        return found


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        BestConstant(),
        LstdRandom(),
        LstdFourier(),
        FittedReturns(),
        StackelbergTd(),
    )
}


def rule_or_method(name: str) -> Rule | Method:
    """Return the method or the learning rule of this name; ValueError for an unknown one."""
    if name in METHODS:
        return METHODS[name]
    if name in RULES or "+" in name:
        return RULES[name]
    raise ValueError(f"rule {name!r} is not one of {listed_names(name, [*RULES, *METHODS])}")
