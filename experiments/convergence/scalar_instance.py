"""The scalar example of Lemma 4.1: not jointly convex, yet with a strongly convex Φ."""

import math
from typing import NamedTuple

from torch import Tensor


class ScalarInstance(NamedTuple):
    """The scalar example of Lemma 4.1: f = ½(Wθ − 1)² + λ/2 θ² + m/2 W², all elementwise.

    f is not jointly convex, but Φ is m-strongly convex on [√(λ/3), B].

    ridge: λ > 0;  decay: m > 0;  bound: B
    Source: Lemma 4.1 of arXiv 2605.15530.
    """

    ridge: float = 0.1
    decay: float = 0.1
    bound: float = 3.0

    def objective(self, body: Tensor, head: Tensor) -> Tensor:
        """Return f(W, θ)."""
        penalty = self.ridge * head.square() + self.decay * body.square()
        return ((body * head - 1).square() + penalty) / 2

    def best_response(self, body: Tensor) -> Tensor:
        """Return θ*(W) = W/(W² + λ)."""
        return body / (body.square() + self.ridge)

    def reduced(self, body: Tensor) -> Tensor:
        """Return Φ(W) = λ/(2(W² + λ)) + mW²/2."""
        return self.ridge / (2 * (body.square() + self.ridge)) + self.decay * body.square() / 2

    def reduced_gradient(self, body: Tensor) -> Tensor:
        """Return Φ'(W) = mW − λW/(W² + λ)²."""
        return self.decay * body - self.ridge * body / (body.square() + self.ridge).square()

    def reduced_curvature(self, body: Tensor) -> Tensor:
        """Return Φ''(W) = m + λ(3W² − λ)/(W² + λ)³."""
        square = body.square()
        return self.decay + self.ridge * (3 * square - self.ridge) / (square + self.ridge) ** 3

    def interval(self) -> tuple[float, float]:
        """Return the constraint set [√(λ/3), B] on which Φ is strongly convex."""
        return math.sqrt(self.ridge / 3), self.bound

    def minimiser(self) -> float:
        """Return W* = √(√(λ/m) − λ), moved into the constraint set."""
        low, high = self.interval()
        inside = math.sqrt(max(math.sqrt(self.ridge / self.decay) - self.ridge, 0.0))
        return min(max(inside, low), high)
