"""An automatic learning rate by Barzilai-Borwein steps, per labelled group.

Inspired by "Explainable Learning Rate Regimes for Stochastic Optimization" (arXiv 2508.13639),
whose own rule could not be read: this is a reconstruction from its idea, second-order information
from the change of stochastic gradients, and not that paper's algorithm. The secant pair
s = w_k − w_{k−1}, y = g(w_k) − g(w_{k−1}) takes both gradients on the same batch, and

    long step ‖s‖²/|s·y|,   short step |s·y|/‖y‖²   (Barzilai and Borwein 1988),

clipped to a range. Whether such a rate rises as the gradient norm falls is to be measured:
`rate_norm_correlation`.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal["long", "short"]


class SignSGD(torch.optim.Optimizer):
    """Descend along the sign of the gradient: w ← w − η sign(g).

    Source: Bernstein et al. (2018).
    """

    def __init__(self, params: Any, lr: float = 1e-3) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must not be negative, got {lr}")
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; a closure, if given, is evaluated first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(group["lr"] * parameter.grad.sign())
        return loss


def secant_rate(
    displacement: Float[Tensor, " size"],
    gradient_change: Float[Tensor, " size"],
    previous: Float[Tensor, ""],
    low: float,
    high: float,
    kind: Kind = "long",
) -> Float[Tensor, ""]:
    """Return the Barzilai-Borwein step for a secant pair, clipped to [low, high].

    displacement:    s = w_k − w_{k−1}
    gradient_change: y = g(w_k) − g(w_{k−1}), on one batch
    previous:        what to return where the pair tells nothing: s or y is 0 or not finite
    kind:            "long" ‖s‖²/|s·y| or "short" |s·y|/‖y‖²
    Pure, and never reads a value: works under `torch.vmap` and in a compiled program.
    """
    product = (displacement * gradient_change).sum().abs()
    if kind == "long":
        above, below = displacement.square().sum(), product
    else:
        above, below = product, gradient_change.square().sum()
    told = (above > 0) & above.isfinite() & below.isfinite()
    # y ⊥ s is no curvature at all: the longest step allowed
    rate = torch.where(below > 0, above / below.clamp(min=torch.finfo(below.dtype).tiny), high)
    moved = gradient_change.abs().sum() > 0
    return torch.where(told & moved, rate.clamp(low, high), previous)


def rate_factor(optimizer: torch.optim.Optimizer, group: dict[str, Any]) -> float:
    """Return the factor from a step length to the group's `lr`: 1, or less under momentum.

    SGD with momentum μ and dampening τ moves (1 − τ)/(1 − μ) times as far in the long run, so its
    rate is (1 − μ)/(1 − τ) of the step. (For sign-SGD see `AutomaticRate`.) Raises ValueError for
    a dampening that is not below 1.
    """
    if isinstance(optimizer, torch.optim.SGD):
        if not group["dampening"] < 1:
            raise ValueError(f"the dampening must be below 1, got {group['dampening']}")
        return (1 - group["momentum"]) / (1 - group["dampening"])
    return 1.0


class AutomaticRate:
    """Set the learning rate of every group of an optimiser before each of its steps.

        optimizer = AutomaticRate(torch.optim.SGD(parameter_groups(…)), low=1e-5, high=1.0)
        loss = optimizer.step(closure)

    The closure zeroes the gradients, computes the loss **on one batch** and calls backward; it is
    called at w_k and, from the second step on, again at w_{k−1}, so that a step costs two backward
    passes. It must give the same result when called twice (no fresh dropout in between); batch
    statistics would be counted twice. The first step uses the groups' own rates.

    optimizer: `torch.optim.SGD` (with or without momentum) or `SignSGD`; each group gets a rate of
               its own, so body and head are told apart by `parameter_groups`
    low, high: the range of the steps, 0 < low ≤ high
    kind:      "long" or "short", see `secant_rate`

    For sign-SGD, whose steps have the length η in every component, the rate is the step times the
    mean absolute gradient: the minimiser of the quadratic model of curvature 1/step along −sign(g).

    Raises ValueError for another optimiser, an illegal range or kind.
    Source: inspired by arXiv 2508.13639 (reconstruction).
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, low: float, high: float, kind: Kind = "long"
    ) -> None:
        if not isinstance(optimizer, torch.optim.SGD | SignSGD):
            raise ValueError(
                "the automatic learning rate is for torch.optim.SGD, with or without momentum, and "
                f"SignSGD, not for {type(optimizer).__name__}"
            )
        if not (0 < low <= high and math.isfinite(high)):
            raise ValueError(f"the range of rates must satisfy 0 < low ≤ high, got [{low}, {high}]")
        if kind not in ("long", "short"):
            raise ValueError(f'kind must be "long" or "short", got {kind!r}')
        self.optimizer = optimizer
        self.low, self.high, self.kind = low, high, kind
        self._before: list[Tensor] | None = None
        self._steps: list[Tensor] | None = None
        self._norms: list[Tensor] = []

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the optimiser, with the rates of the last step."""
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Zero the gradients, as the optimiser does."""
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Callable[[], Any]) -> Any:
        """Evaluate the closure, set the rates, take one step, and return the loss at w_k."""
        with torch.enable_grad():
            loss = closure()
        with torch.no_grad():
            here = [self._flat(group, gradient=False) for group in self.param_groups]
            slopes = [self._flat(group, gradient=True) for group in self.param_groups]
            self._norms = [slope.norm() for slope in slopes]
            if self._before is not None:
                self._set_rates(closure, here, slopes, self._before)
            self._before = here
        self.optimizer.step()
        return loss

    def rates(self) -> dict[str, float]:
        """Return the rate of the last step of every group, by label (or number)."""
        return self._labelled([group["lr"] for group in self.param_groups])

    def gradient_norms(self) -> dict[str, float]:
        """Return the gradient norm at the last step of every group; empty before the first."""
        return self._labelled(self._norms)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs, the optimiser's own state included."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "before": self._before,
            "steps": self._steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave; raises ValueError where the groups differ in size."""
        before = state["before"]
        here = [self._flat(group, gradient=False) for group in self.param_groups]
        if before is not None and [x.shape for x in before] != [x.shape for x in here]:
            raise ValueError("the saved automatic rate belongs to parameter groups of other sizes")
        self.optimizer.load_state_dict(state["optimizer"])
        self._before = None if before is None else [x.to(y) for x, y in zip(before, here)]
        steps = state["steps"]
        self._steps = None if steps is None else [x.to(y) for x, y in zip(steps, here)]

    def _set_rates(
        self,
        closure: Callable[[], Any],
        here: list[Tensor],
        slopes: list[Tensor],
        before: list[Tensor],
    ) -> None:
        held = [self._gradients(group) for group in self.param_groups]
        self._move(before)
        with torch.enable_grad():
            closure()
        previous_slopes = [self._flat(group, gradient=True) for group in self.param_groups]
        self._move(here)
        steps = []
        for index, group in enumerate(self.param_groups):
            for parameter, gradient in zip(group["params"], held[index]):
                parameter.grad = gradient
            slope = slopes[index]
            factor = torch.as_tensor(rate_factor(self.optimizer, group)).to(slope)
            if isinstance(self.optimizer, SignSGD) and slope.numel():
                # Where the gradient vanishes the sign step does too, whatever the rate.
                factor = slope.abs().mean().clamp(min=torch.finfo(slope.dtype).tiny)
            if self._steps is not None:
                known = self._steps[index]
            else:
                known = (torch.as_tensor(group["lr"]).to(slope) / factor).clamp(self.low, self.high)
            step = secant_rate(
                here[index] - before[index],
                slope - previous_slopes[index],
                known,
                self.low,
                self.high,
                self.kind,
            )
            steps.append(step)
            rate = step * factor
            if isinstance(group["lr"], Tensor):
                group["lr"].copy_(rate)
            else:
                group["lr"] = float(rate)
        self._steps = steps

    def _labelled(self, values: list[Any]) -> dict[str, float]:
        labels = [str(group.get("label", i)) for i, group in enumerate(self.param_groups)]
        unique = [x if labels.count(x) == 1 else f"{x} {i}" for i, x in enumerate(labels)]
        return {label: float(value) for label, value in zip(unique, values)}

    @staticmethod
    def _gradients(group: dict[str, Any]) -> list[Tensor | None]:
        # Clones: the closure's zero_grad may zero in place.
        return [None if p.grad is None else p.grad.clone() for p in group["params"]]

    @staticmethod
    def _flat(group: dict[str, Any], *, gradient: bool) -> Tensor:
        parts = []
        for parameter in group["params"]:
            value = parameter.grad if gradient else parameter
            parts.append((torch.zeros_like(parameter) if value is None else value).reshape(-1))
        return torch.cat(parts).detach().clone() if parts else torch.zeros(0)

    def _move(self, points: list[Tensor]) -> None:
        for group, point in zip(self.param_groups, points):
            sizes = [parameter.numel() for parameter in group["params"]]
            for parameter, part in zip(group["params"], point.split(sizes) if sizes else ()):
                parameter.copy_(part.reshape(parameter.shape))


class Correlation(NamedTuple):
    """The correlation of rate and gradient norm: of their logarithms, and of their ranks."""

    logarithmic: float
    rank: float


def rate_norm_correlation(
    rates: Float[Tensor, " step"], norms: Float[Tensor, " step"]
) -> Correlation:
    """Return the correlation of learning rate and gradient norm over the steps of a run.

    The claim that the rate rises as the norm falls would show as a value near −1. Logarithmic is
    Pearson's of the logarithms, rank is Spearman's (ties share their mean rank). NaN where one of
    the two never changes. Raises ValueError for fewer than 3 steps or values that are not above 0.
    """
    if len(rates) < 3:
        raise ValueError(f"a correlation needs at least 3 steps, got {len(rates)}")
    if not bool(((rates > 0) & (norms > 0)).all()):
        raise ValueError("rates and gradient norms must be above 0")
    return Correlation(
        _pearson(rates.double().log(), norms.double().log()),
        _pearson(_ranks(rates), _ranks(norms)),
    )


def _pearson(first: Tensor, second: Tensor) -> float:
    first, second = first - first.mean(), second - second.mean()
    scale = float(first.norm() * second.norm())
    return float(first @ second) / scale if scale > 0 else math.nan


def _ranks(values: Tensor) -> Tensor:
    _, place, counts = values.unique(return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2)[place].double()
