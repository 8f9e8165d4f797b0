"""Deep Q-learning with split learning rates: the loss, the update, and the choice of actions.

One update takes a batch of transitions (s, a, R, Γ, s'), with R the n-step return and Γ its
discount, 0 at an end, and descends the error R + Γ·q(s') − Q(s, a) of the network Q, where q is the
value that the target network gives to its own best action or, in double DQN, to the network's.
Sources: Mnih et al. 2015 (Nature 518, 529), van Hasselt et al. 2016 (arXiv 1509.06461), and update
(2) of arXiv 2605.15530 for the two learning rates.
"""

import contextlib
import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional

from agents.dqn.batch import Batch
from agents.dqn.optimizers import load_optimizer, optimizer_state
from agents.dqn.q_network import QNetwork
from agents.dqn.target_cache import TargetCache
from agents.dqn.update_graph import UpdateGraph
from neural_tdc.split_rates import scale

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "huber": functional.smooth_l1_loss,
    "squared": functional.mse_loss,
}
PRECISIONS = ("float32", "bf16")


class QObjective(NamedTuple):
    """What an update descends: double or plain Q-learning; "huber" or "squared" error."""

    double: bool = True
    loss: str = "huber"


DOUBLE = QObjective()


def td_targets(
    target_values: Float[Tensor, "batch action"],
    reward: Float[Tensor, " batch"],
    discount: Float[Tensor, " batch"],
    online_values: Float[Tensor, "batch action"] | None = None,
) -> Float[Tensor, " batch"]:
    """Return R + Γ·q(s'), where q is the target's value of the best action by `online_values`.

    online_values:  the network's own values at s' for double DQN; None for the target's
    """
    choosing = target_values if online_values is None else online_values
    best = choosing.argmax(1, keepdim=True)
    return reward + discount * target_values.gather(1, best).squeeze(1)


def loss_and_value(
    network: nn.Module,
    target_values: Float[Tensor, "batch action"],
    batch: Batch,
    objective: QObjective,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the loss of a batch and the mean of the values Q(s, a) in it.

    target_values:  the target network's values at the next observations

    Errors are computed in the rewards' precision, also where the networks' products have less.
    """
    exact = batch.reward.dtype
    with torch.no_grad():
        online_values = network(batch.next_observation).to(exact) if objective.double else None
        td_target = td_targets(target_values.to(exact), batch.reward, batch.discount, online_values)
    values = network(batch.observation).to(exact)
    value = values.gather(1, batch.action[:, None]).squeeze(1)
    return LOSSES[objective.loss](value, td_target), value.detach().mean()


def exploration(step: int, first: float, last: float, over: int) -> float:
    """Return ε at an agent step: from `first` at step 0 linearly to `last` at step `over`."""
    if step >= over:
        return last
    return first + (last - first) * step / over


class Learner:
    """A network, its target, and the optimiser that teaches it.

    network:       on the device to learn on
    max_grad_norm:  the gradient is shortened to this norm; None leaves it as it is
    precision:     float32, or bf16 for the products of the forward and backward passes
    compiled:      whether loss and gradients are compiled; the target's pass is not
    target_cache_rows: rows of the replay whose target values are kept until the next copy; 0: none
    graph:         whether updates are recorded as a CUDA graph, where there is such a device and no
                   target values are kept, which only the host knows of
    """

    def __init__(
        self,
        network: QNetwork,
        optimizer: torch.optim.Optimizer,
        objective: QObjective = DOUBLE,
        *,
        max_grad_norm: float | None = None,
        precision: str = "float32",
        compiled: bool = False,
        target_cache_rows: int = 0,
        graph: bool = True,
    ) -> None:
        self.network, self.optimizer, self.objective = network, optimizer, objective
        self.target = copy.deepcopy(network).requires_grad_(False)
        self.device = next(network.parameters()).device
        self._max_grad_norm, self._half = max_grad_norm, precision == "bf16"
        self._trained = [p for group in optimizer.param_groups for p in group["params"]]
        self._pairs: tuple[list[Tensor], list[Tensor]] = (
            list(self.target.parameters()),
            list(network.parameters()),
        )
        self.target_values: TargetCache | None = None
        if target_cache_rows:
            last = network.head.weight
            self.target_values = TargetCache(target_cache_rows, len(last), self.device, last.dtype)
        self._loss = torch.compile(loss_and_value) if compiled else loss_and_value
        recorded = graph and self.device.type == "cuda" and not target_cache_rows
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
            after = self._after(batch)
            loss, value = self._loss(self.network, after, batch, self.objective)
        loss.backward()
        if self._max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._trained, self._max_grad_norm)
        self.optimizer.step()
        self._drop_gradients()
        return loss.detach(), value

    def _drop_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)

    def _after(self, batch: Batch) -> Tensor:
        if self.target_values is None:
            return self.target(batch.next_observation)
        return self.target_values.of(batch.next_number, batch.next_observation, self.target)

    def gradient_norms(self, batch: Batch) -> dict[str, Tensor]:
        """Return the norms of the loss's gradient for body and head, and change nothing."""
        with self._precision():
            # Nothing is remembered here: measuring must not change what is learned.
            after = self.target(batch.next_observation)
            loss, _ = loss_and_value(self.network, after, batch, self.objective)
        gradients = torch.autograd.grad(loss, self._trained)
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
        """Set both rates to a factor times those that the optimiser was made with."""
        scale(self.optimizer, factor)

    @torch.no_grad()
    def greedy(self, observation: Shaped[Tensor, "batch ..."]) -> Int[Tensor, " batch"]:
        """Return the best action by the network at every observation, on the device."""
        with self._precision():
            return self.network(observation).argmax(1)

    def state(self) -> dict[str, Any]:
        """Return network, target and optimiser as tensors and plain values."""
        return {
            "network": dict(self.network.state_dict()),
            "target": dict(self.target.state_dict()),
            "optimizer": optimizer_state(self.optimizer),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned; ValueError where it is another network's."""
        try:
            self.network.load_state_dict(state["network"])
            self.target.load_state_dict(state["target"])
            load_optimizer(self.optimizer, state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            said = " ".join(str(error).split())[:120]
            raise ValueError(f"the checkpoint is of another network or optimiser: {said}") from None
        finally:
            # Also where a part of it was taken over.
            self._forget()
            if self._graph is not None:
                self._graph.forget()
