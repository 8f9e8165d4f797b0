"""The update of many Q-networks at once: one objective, learning rates of each run's own.

The arithmetic of a run is that of `agents.dqn.learner.Learner`: the same objective, and the same
optimiser of torch on the part of the stacked parameters that belongs to runs of the same rates.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from agents.dqn.batch import Batch
from agents.dqn.objectives import Descent, LinearHead, QObjective, descent
from agents.dqn.optimizers import AUXILIARY, load_optimizer, optimizer_of, optimizer_state
from agents.dqn.q_network import QNetwork
from agents.dqn.stacked_networks import StackedNetwork
from agents.dqn.update_graph import UpdateGraph
from neural_tdc.split_rates import scale


class MemberRates(NamedTuple):
    """The learning rates of a run; `auxiliary` counts for gradient TD only."""

    body: float
    head: float
    auxiliary: float


class StackedLearner:
    """Networks that descend one objective, their targets, and what teaches them.

    networks:       one a run, on the device to learn on
    rates:          one a run; runs of the same rates must follow each other to be fast
    max_grad_norm:  the gradient of each run is shortened to this norm; None leaves it as it is
    graph:          whether updates are recorded as a CUDA graph, where there is such a device
    """

    def __init__(
        self,
        networks: Sequence[QNetwork],
        objective: QObjective,
        rates: Sequence[MemberRates],
        optimizer: str,
        eps: float | None = None,
        max_grad_norm: float | None = None,
        graph: bool = True,
    ) -> None:
        self.objective, self._max_grad_norm = objective, max_grad_norm
        self.network, self.target = StackedNetwork(networks), StackedNetwork(networks)
        self._leaves = list(self.network.parameters.values())
        self.auxiliary: LinearHead | None = None
        if objective.correction:
            self.auxiliary = LinearHead(*(torch.zeros_like(leaf) for leaf in self.network.head))
            self._leaves += list(self.auxiliary)
        for leaf in self._leaves:
            leaf.requires_grad_(True)
        self._views: list[tuple[Tensor, int, slice]] = []
        groups = [group for block in _blocks(rates) for group in self._groups(*block)]
        device = self._leaves[0].device
        self.optimizer = optimizer_of(optimizer, groups, eps, device)
        self._factor: float | None = None
        recorded = graph and device.type == "cuda"
        self._graph = UpdateGraph(self._update, self._drop_gradients) if recorded else None

    def _groups(self, runs: slice, rates: MemberRates) -> list[dict[str, Any]]:
        """Return the parameter groups of runs of the same rates: parts of the stacked tensors."""
        names = [*self.network.parameters, *(2 * [AUXILIARY] if self.auxiliary else [])]
        members: dict[str, list[Tensor]] = {"body": [], "head": [], AUXILIARY: []}
        for index, (name, leaf) in enumerate(zip(names, self._leaves)):
            view = leaf.detach()[runs]
            self._views.append((view, index, runs))
            members[name.partition(".")[0]].append(view)
        return [
            {"params": views, "label": label, "lr": rate, "base_lr": rate}
            for (label, views), rate in zip(members.items(), rates)
            if views
        ]

    def update(self, batch: Batch) -> tuple[Float[Tensor, " run"], Float[Tensor, " run"]]:
        """Take one step of every run; return loss and mean value. A batch is [run, batch, …]."""
        return self._update(batch) if self._graph is None else self._graph(batch)

    def _update(self, batch: Batch) -> tuple[Tensor, Tensor]:
        found = self.found(batch)
        gradients = torch.autograd.grad(found.objective.sum(), self._leaves)
        if self._max_grad_norm is not None:
            gradients = _shortened(gradients, self._max_grad_norm)
        # Fused optimisers take a gradient's memory in its order, whatever its strides are.
        ordered = [leaf.contiguous() for leaf in gradients]
        for view, index, runs in self._views:
            view.grad = ordered[index][runs]
        self.optimizer.step()
        self._drop_gradients()
        return found.loss, found.value

    def _drop_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def found(self, batch: Batch) -> Descent:
        """Return what every run descends on its own batch."""
        objective, after = self.objective, None
        if objective.target == "network":
            with torch.no_grad():
                after = self.target(batch.next_observation)
        target_head = self.target.head if objective.target == "head" else None
        return descent(self.network, self.auxiliary, after, target_head, batch, objective)

    @torch.no_grad()
    def sync_target(self) -> None:
        """Copy the networks into the targets."""
        torch._foreach_copy_(
            list(self.target.parameters.values()), list(self.network.parameters.values())
        )

    def set_rates(self, factor: float) -> None:
        """Set all rates to a factor times those of each run."""
        # On a GPU every rate is a tensor, and to write it is to start a kernel.
        if factor != self._factor:
            scale(self.optimizer, factor)
            self._factor = factor

    def state(self) -> dict[str, Any]:
        """Return networks, targets and optimiser as tensors and plain values."""
        return {
            "leaves": list(self._leaves),
            "target": list(self.target.parameters.values()),
            "optimizer": optimizer_state(self.optimizer),
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; ValueError where it is of other networks."""
        own = [*self._leaves, *self.target.parameters.values()]
        saved = [*state["leaves"], *state["target"]]
        if [leaf.shape for leaf in own] != [leaf.shape for leaf in saved]:
            raise ValueError("the checkpoint is of other networks")
        torch._foreach_copy_(own, saved)
        load_optimizer(self.optimizer, state["optimizer"])
        self._factor = None
        if self._graph is not None:
            self._graph.forget()


def _blocks(rates: Sequence[MemberRates]) -> list[tuple[slice, MemberRates]]:
    """Return the runs that follow each other and have the same rates."""
    blocks: list[tuple[slice, MemberRates]] = []
    for run, each in enumerate(rates):
        if blocks and blocks[-1][1] == each:
            blocks[-1] = (slice(blocks[-1][0].start, run + 1), each)
        else:
            blocks.append((slice(run, run + 1), each))
    return blocks


def _shortened(gradients: Sequence[Tensor], norm: float) -> tuple[Tensor, ...]:
    """Return gradients that are at most so long in each run, as `clip_grad_norm_` has it."""
    squares = [leaf.flatten(1).square().sum(1) for leaf in gradients]
    factor = (norm / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1.0)
    return tuple(leaf * factor.view(-1, *[1] * (leaf.dim() - 1)) for leaf in gradients)
