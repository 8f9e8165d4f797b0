"""Deep Q-learning with split learning rates: the update, and the choice of actions.

What an update descends is in `agents.dqn.objectives`. Body, head and auxiliary head learn at rates
of their own: update (2) of arXiv 2605.15530.
"""

import contextlib
import copy
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from agents.dqn.batch import Batch
from agents.dqn.objectives import DOUBLE, Descent, QObjective, descent
from agents.dqn.optimizers import load_optimizer, optimizer_state
from agents.dqn.q_network import QNetwork
from agents.dqn.target_cache import TargetCache
from agents.dqn.update_graph import UpdateGraph
from neural_tdc.split_rates import scale

PRECISIONS = ("float32", "tf32", "bf16")


def exploration(step: int, first: float, last: float, over: int) -> float:
    """Return ε at an agent step: from `first` at step 0 linearly to `last` at step `over`."""
    if step >= over:
        return last
    return first + (last - first) * step / over


def make_auxiliary(network: QNetwork) -> nn.Linear:
    """Make an auxiliary head for every action, 0 at the start, next to the network's head."""
    auxiliary = copy.deepcopy(network.head)
    with torch.no_grad():
        for parameter in auxiliary.parameters():
            parameter.zero_()
    return auxiliary


class Learner:
    """A network, its target, and the optimiser that teaches it.

    network:       on the device to learn on
    auxiliary:     the auxiliary head, which an objective of gradient TD needs; see `make_auxiliary`
    max_grad_norm:  the gradient is shortened to this norm; None leaves it as it is
    precision:     float32, or bf16 for the products of the forward and backward passes; tf32 is
                   float32 here, and a switch of torch for the whole process
    compiled:      whether loss and gradients are compiled; the target's pass is not
    target_cache_rows: rows of the replay whose target values are kept until the next copy; 0: none.
                   Of a target network only.
    graph:         whether updates are recorded as a CUDA graph, where there is such a device and no
                   target values are kept, which only the host knows of

    Raises ValueError where gradient TD has no auxiliary head, or a whole network as its target.
    """

    def __init__(
        self,
        network: QNetwork,
        optimizer: torch.optim.Optimizer,
        objective: QObjective = DOUBLE,
        *,
        auxiliary: nn.Linear | None = None,
        max_grad_norm: float | None = None,
        precision: str = "float32",
        compiled: bool = False,
        target_cache_rows: int = 0,
        graph: bool = True,
    ) -> None:
        self.network, self.optimizer, self.objective = network, optimizer, objective
        self.auxiliary = auxiliary
        if objective.correction and (auxiliary is None or objective.target == "network"):
            raise ValueError("gradient TD needs an auxiliary head and no target network")
        self.target = copy.deepcopy(network).requires_grad_(False)
        self.device = next(network.parameters()).device
        self._max_grad_norm, self._half = max_grad_norm, precision == "bf16"
        self._trained = [p for group in optimizer.param_groups for p in group["params"]]
        self._pairs: tuple[list[Tensor], list[Tensor]] = (
            list(self.target.parameters()),
            list(network.parameters()),
        )
        self.target_values: TargetCache | None = None
        if target_cache_rows and objective.target == "network":
            last = network.head.weight
            self.target_values = TargetCache(target_cache_rows, len(last), self.device, last.dtype)
        self._descent = torch.compile(descent) if compiled else descent
        self._factor: float | None = None
        recorded = graph and self.device.type == "cuda" and self.target_values is None
        self._graph = UpdateGraph(self._update, self._drop_gradients) if recorded else None

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        if self._half:
            # A weight that is rounded for the choice of actions, without gradients, would else be
            # found again by the loss, which then has none either; and a graph must not hold it.
            return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)
        return contextlib.nullcontext()

    def update(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Take one step of the optimiser; return loss and mean value, on the device."""
        return self._update(batch) if self._graph is None else self._graph(batch)

    def _update(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with self._precision():
            found = self._found(self._after(batch), batch)
        torch.autograd.backward(found.objective)
        if self._max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._trained, self._max_grad_norm)
        self.optimizer.step()
        self._drop_gradients()
        return found.loss, found.value

    def _drop_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def _found(self, after: Tensor | None, batch: Batch, compiled: bool = True) -> Descent:
        return (self._descent if compiled else descent)(
            self.network,
            self.auxiliary,
            after,
            self.target.head if self.objective.target == "head" else None,
            batch,
            self.objective,
        )

    def _after(self, batch: Batch) -> Tensor | None:
        if self.objective.target != "network":
            return None
        if self.target_values is None:
            return self.target(batch.next_observation)
        return self.target_values.of(batch.next_number, batch.next_observation, self.target)

    def gradient_norms(self, batch: Batch) -> dict[str, Tensor]:
        """Return the norm of the gradient for every group of parameters, and change nothing."""
        with self._precision():
            # Nothing is remembered here: measuring must not change what is learned.
            whole = self.objective.target == "network"
            after = self.target(batch.next_observation) if whole else None
            objective = self._found(after, batch, compiled=False).objective
        gradients = torch.autograd.grad(objective, self._trained)
        found: dict[str, Tensor] = {}
        rest = list(gradients)
        for group in self.optimizer.param_groups:
            own, rest = rest[: len(group["params"])], rest[len(group["params"]) :]
            found[group["label"]] = nn.utils.get_total_norm(own)
        return found

    def sync_target(self) -> None:
        """Copy the network into the target."""
        with torch.no_grad():
            torch._foreach_copy_(*self._pairs)
        self._forget()

    def _forget(self) -> None:
        if self.target_values is not None:
            self.target_values.forget()

    def set_rates(self, factor: float) -> None:
        """Set all rates to a factor times those that the optimiser was made with."""
        # On a GPU every rate is a tensor, and to write it is to start a kernel.
        if factor != self._factor:
            scale(self.optimizer, factor)
            self._factor = factor

    @torch.no_grad()
    def greedy(self, observation: Shaped[Tensor, "batch ..."]) -> Int[Tensor, " batch"]:
        """Return the best action by the network at every observation, on the device."""
        with self._precision():
            return self.network(observation).argmax(1)

    def state(self) -> dict[str, Any]:
        """Return networks and optimiser as tensors and plain values."""
        auxiliary = None if self.auxiliary is None else dict(self.auxiliary.state_dict())
        return {
            "auxiliary": auxiliary,
            "network": dict(self.network.state_dict()),
            "target": dict(self.target.state_dict()),
            "optimizer": optimizer_state(self.optimizer),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; ValueError where it is another network's."""
        try:
            self.network.load_state_dict(state["network"])
            self.target.load_state_dict(state["target"])
            if self.auxiliary is not None:
                self.auxiliary.load_state_dict(state["auxiliary"])
            load_optimizer(self.optimizer, state["optimizer"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            said = " ".join(str(error).split())[:120]
            raise ValueError(f"the checkpoint is of another network or optimiser: {said}") from None
        finally:
            # Also where a part of it was taken over.
            self._forget()
            self._factor = None
            if self._graph is not None:
                self._graph.forget()
