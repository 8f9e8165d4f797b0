"""Stackelberg TD(λ) as a method: a body that learns by λ-returns, a head that LSTD(λ) solves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from neural_tdc.baselines.candidates import Folds, least_squares_group
from neural_tdc.baselines.feature_blocks import Block
from neural_tdc.baselines.fitted import (
    FittedPlan,
    HeadResponse,
    fit_each_stream,
    network_block,
)
from neural_tdc.baselines.held_out_ridge import ridge_head
from neural_tdc.baselines.lambda_returns import at_both_states
from neural_tdc.baselines.linear_value import LinearValue
from neural_tdc.baselines.method import Method, OnMethodProgress, check_updates
from neural_tdc.baselines.random_features import random_tanh
from neural_tdc.randomness import generator
from neural_tdc.types import Parameters, Transition

# The ridge of heads that are solved while the body learns.
_RIDGE = 1e-3
# When the head is solved, see `StackelbergTd`.
SOLVES = ("end", "refits")


@dataclass(frozen=True)
class StackelbergTd(Method):
    """Stackelberg TD(λ); see docs/stackelberg-td.md.

    trace_decay:     λ, of the body's λ-returns and of LSTD(λ)
    updates:         of the body by Adam
    hidden:          units of the body's layers; the last layer's are its features
    random_features: frozen tanh features next to the learned ones
    solves:          when the head is solved: `end`, while the body learns with a head of its own;
        `refits`: whenever the λ-returns are computed as well, and the body learns under that head
    """

    name: ClassVar[str] = "stackelberg-td"
    passes: ClassVar[str] = "`updates` batches of 128, 40 passes for λ-returns, and LSTD(λ)"
    trace_decay: float = 0.9
    updates: int = 8_000
    hidden: tuple[int, ...] = (64, 64)
    random_features: int = 192
    feature_scale: float = 2.0
    solves: str = "end"

    def __post_init__(self) -> None:
        """Raise ValueError for a word that `solves` does not know, and for a body not to learn."""
        check_updates(self.updates)
        if self.solves not in SOLVES:
            raise ValueError(f"solves is {self.solves!r}; it must be {' or '.join(SOLVES)}")

    def learn(
        self, streams: Sequence[Transition], seed: int, on_progress: OnMethodProgress
    ) -> list[LinearValue]:
        """Learn a body for every stream, then solve for its head; see `Method.learn`."""
        inputs = streams[0].observation.shape[1]
        random = [
            random_tanh(
                inputs,
                self.random_features,
                self.feature_scale,
                generator(seed, self.name, run),
                stream.observation.device,
            )
            for run, stream in enumerate(streams)
        ]
        networks = fit_each_stream(
            streams,
            self.trace_decay,
            FittedPlan(hidden=self.hidden, updates=self.updates),
            seed,
            lambda done: on_progress(done, self.updates),
            partial(self._response, streams, random) if self.solves == "refits" else None,
        )
        found = []
        for index, stream in enumerate(streams):
            blocks = [network_block(networks, index)[0], random[index]]
            found.append(LinearValue(blocks, ridge_head(blocks, stream, self.trace_decay)))
        return found

    def _response(
        self, streams: Sequence[Transition], random: Sequence[Block], networks: Parameters
    ) -> HeadResponse:
        """Solve for all heads over the present features."""
        heads, besides = [], []
        for index, stream in enumerate(streams):
            block, _ = network_block(networks, index)
            everything = Folds([stream], [[0]])
            group = least_squares_group(
                "", everything, [[block, random[index]]], (self.trace_decay,), (_RIDGE,)
            )
            head, width = group.head[0, 0], len(block.layers[-1].bias)
            heads.append(head[:width, None])
            rest = partial(LinearValue.__call__, LinearValue([random[index]], head[width:]))
            besides.append([value[:, None] for value in at_both_states(rest, stream)])
        beside, next_beside = ([*each] for each in zip(*besides))
        return HeadResponse(torch.stack(heads).to(networks.head), beside, next_beside)
