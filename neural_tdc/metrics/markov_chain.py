"""A finite Markov chain, on which everything that policy evaluation asks has an exact answer."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from neural_tdc.metrics import value_errors as errors
from neural_tdc.metrics.transition_matrices import check_chain
from neural_tdc.metrics.value_errors import Moments
from neural_tdc.rules.batch_terms import BatchTerms
from neural_tdc.rules.bodies import MspbeBody
from neural_tdc.rules.heads import Gtd2Head
from neural_tdc.vector_jacobian import vjp


@runtime_checkable
class BodyAndHead(Protocol):
    """What `MarkovChain.mspbe_gradients` needs of parameters, for instance `Parameters`."""

    @property
    def body(self) -> dict[str, Tensor]:
        """The body's parameters W by name."""

    @property
    def head(self) -> Tensor:
        """The head θ [d]."""


@dataclasses.dataclass(frozen=True, eq=False)
class MarkovChain:
    """A Markov chain with rewards, under the target policy, and the weighting of its states.

    transition: [state, state] P; a row that sums to less than 1 ends with the missing probability
    reward:     [state] r(s), the expected reward of the step from s, rewards at an end included
    discount:   γ in [0, 1]; 1 only where an end is reached from every state
    weighting:  [state] d(s), sums to 1, usually the stationary distribution of the behaviour

    Everything is kept and computed in float64, for inputs of any precision. Features, [state, d],
    may come in another precision or from another device and are brought here first. Raises
    ValueError with one line where the four do not fit together. Methods that take features and
    a head can be batched over both with `torch.vmap`, except for `td_fixed_point`, which looks
    at the numbers to warn.
    """

    transition: Tensor
    reward: Tensor
    discount: float
    weighting: Tensor

    def __post_init__(self) -> None:
        """Bring the tables to float64 and check them."""
        for name in ("transition", "reward", "weighting"):
            table = torch.as_tensor(getattr(self, name), dtype=torch.float64).detach()
            object.__setattr__(self, name, table)
        object.__setattr__(self, "discount", float(self.discount))
        check_chain(self.transition, self.reward, self.discount, self.weighting)

    def to(self, device: torch.device | str) -> "MarkovChain":
        """Return the same chain on another device."""
        return dataclasses.replace(
            self,
            transition=self.transition.to(device),
            reward=self.reward.to(device),
            weighting=self.weighting.to(device),
        )

    def _here(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.transition)

    def value(self) -> Float[Tensor, " state"]:
        """Return the true value v = (I − γP)⁻¹r."""
        identity = torch.eye(
            len(self.transition), dtype=torch.float64, device=self.transition.device
        )
        return torch.linalg.solve(identity - self.discount * self.transition, self.reward)

    def moments(self, features: Float[Tensor, "state d"]) -> Moments:
        """Return A = ΦᵀD(I − γP)Φ, b₀ = ΦᵀDr and C = ΦᵀDΦ."""
        features = self._here(features)
        weighted = features * self.weighting[:, None]
        following = self.discount * self.transition @ features
        return Moments(
            A=weighted.mT @ (features - following),
            b0=weighted.mT @ self.reward,
            C=weighted.mT @ features,
        )

    def mspbe(
        self, features: Float[Tensor, "state d"], head: Float[Tensor, " d"]
    ) -> Float[Tensor, ""]:
        """Return the mean squared projected Bellman error J = bᵀC⁺b = ‖ΠTV − V‖²_d."""
        return errors.mspbe(self.moments(features), self._here(head))

    def mspbe_gradients(
        self,
        features_fn: Callable[[dict[str, Tensor], Tensor], Tensor],
        parameters: BodyAndHead,
        observations: Shaped[Tensor, "state *observation"],
        epsilon: float = 0.0,
    ) -> tuple[dict[str, Tensor], Float[Tensor, " d"], Float[Tensor, " d"]]:
        """Return the exact gradients of ½J in the body and in the head, and ω*.

        J = bᵀ(C + εI)⁻¹b, with the pseudo-inverse of C where ε = 0: exact as long as the rank of
        C does not change near these parameters.

        features_fn(body, observations) gives the features [state, d]; observations: [state, …]
        one a state, in the chain's order. The body's gradient has the body's own names, shapes,
        precision and device; the head's gradient and ω* are float64 [d].

        The gradients are expectations over d and P of the rows `mspbe` and `gtd2` at ω = ω*.
        Source: Sutton et al. 2009 for the head; for the body the same saddle form
        ½J = max_ω E[ρδ(ωᵀφ) − ½(ωᵀφ)²] differentiated in φ.
        """
        if parameters.body:
            given, pull_back = vjp(lambda body: features_fn(body, observations), parameters.body)
        else:
            given = features_fn(parameters.body, observations)
        features, head = self._here(given), self._here(parameters.head)
        omega = errors.auxiliary_solution(self.moments(features), head, epsilon)
        following = self.transition @ features
        # A sample a state, with the mean next feature: the rows are linear in φ'. E[ρ | s] = 1, so
        # that the ratio is gone once the average over actions is taken.
        one = torch.ones_like(self.weighting)
        residual = self._bellman_residual(features @ head)
        s = BatchTerms(features, following, head, residual, one, self.discount * one)
        inner = s.inner_products(features, omega, omega)
        row = Gtd2Head().weights(s, inner)
        assert row.feature is not None
        assert row.next_feature is not None
        added = (self.weighting * row.feature) @ features
        head_gradient = -added - (self.weighting * row.next_feature) @ following
        if not parameters.body:
            return {}, head_gradient, omega
        into_state, into_next = MspbeBody().cotangents(s, inner, {})
        cotangent = self.weighting[:, None] * into_state
        cotangent = cotangent + self.transition.mT @ (self.weighting[:, None] * into_next)
        (body_gradient,) = pull_back(cotangent.to(given))
        return body_gradient, head_gradient, omega

    def _bellman_residual(self, values: Float[Tensor, " state"]) -> Float[Tensor, " state"]:
        return self.reward + self.discount * self.transition @ values - values

    def td_fixed_point(self, features: Float[Tensor, "state d"]) -> Float[Tensor, " d"]:
        """Return θ_TD = A⁻¹b₀, what LSTD computes; A⁺b₀ with a warning where A is singular."""
        moments = self.moments(features)
        singular = torch.linalg.svdvals(moments.A)
        if bool(singular[-1] <= errors.CUT * singular[0]):
            warnings.warn(
                "A is singular on these features: the TD fixed point is not unique, and the one "
                "of the pseudo-inverse is taken",
                stacklevel=2,
            )
        return errors.td_fixed_point(moments)

    def rmsve(
        self, features: Float[Tensor, "state d"], head: Float[Tensor, " d"]
    ) -> Float[Tensor, ""]:
        """Return the root mean squared value error √Σ d(s)(V(s) − v(s))²."""
        values = self._here(features) @ self._here(head)
        return errors.rmsve(values, self.value(), self.weighting)

    def rmsbe(
        self, features: Float[Tensor, "state d"], head: Float[Tensor, " d"]
    ) -> Float[Tensor, ""]:
        """Return the root mean squared Bellman error √Σ d(s)((TV)(s) − V(s))²."""
        residual = self._bellman_residual(self._here(features) @ self._here(head))
        return (self.weighting * residual.square()).sum().sqrt()

    def neu(
        self, features: Float[Tensor, "state d"], head: Float[Tensor, " d"]
    ) -> Float[Tensor, ""]:
        """Return the norm of the expected update ‖E[ρδφ]‖², squared."""
        moments = self.moments(features)
        return (moments.b0 - moments.A @ self._here(head)).square().sum()

    def lstd_rmsve(self, features: Float[Tensor, "state d"]) -> Float[Tensor, ""]:
        """Return the RMSVE of the TD fixed point on these features."""
        return self.rmsve(features, errors.td_fixed_point(self.moments(features)))

    def best_linear_rmsve(self, features: Float[Tensor, "state d"]) -> Float[Tensor, ""]:
        """Return the least RMSVE of any head on these features."""
        features, value = self._here(features), self.value()
        return self.rmsve(features, errors.best_linear(features, self.weighting, value))
