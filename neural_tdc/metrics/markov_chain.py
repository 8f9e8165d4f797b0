"""A finite Markov chain, on which everything that policy evaluation asks has an exact answer."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from neural_tdc.metrics import value_errors as errors
from neural_tdc.metrics.value_errors import Moments
from neural_tdc.rules.batch_terms import BatchTerms
from neural_tdc.rules.bodies import MspbeBody
from neural_tdc.rules.heads import Gtd2Head
from neural_tdc.vector_jacobian import vjp

# Rows may miss 1 by the rounding of a table once written in single precision.
TOLERANCE = 1e-6


@runtime_checkable
class BodyAndHead(Protocol):
    """What `MarkovChain.mspbe_gradients` needs of parameters, for instance `Parameters`."""

    @property
    def body(self) -> dict[str, Tensor]:
        """The body's parameters W by name."""

    @property
    def head(self) -> Tensor:
        """The head θ [d]."""


def reachability(transition: Float[Tensor, "state state"]) -> Bool[Tensor, "state state"]:
    """Return whether column's state can be reached from row's state in any number of steps."""
    states = len(transition)
    reached = (transition > 0) | torch.eye(states, dtype=torch.bool, device=transition.device)
    for _ in range(max(states - 1, 1).bit_length()):
        numbers = reached.to(torch.float32)
        reached = numbers @ numbers > 0
    return reached


def stationary_weighting(
    transition_with_restart: Float[Tensor, "state state"],
    start: Float[Tensor, " state"] | None = None,
) -> Float[Tensor, " state"]:
    """Return the stationary distribution d of a chain, d = dP, also where it is periodic.

    transition_with_restart: [state, state] rows that sum to 1: where an episode ends the chain
    continues at a start state. start: [state] probabilities; states that cannot be reached from
    there do not count. Raises ValueError where more than one set of states can hold the chain
    for ever, since the distribution then depends on chance.
    """
    P = transition_with_restart
    _check_square(P)
    _check_rows(P, sums_to_one=True)
    reached = reachability(P)
    # A state is recurrent when every state it leads to leads back to it.
    recurrent = (~reached | reached.mT).all(1)
    if start is not None:
        recurrent = recurrent & (reached & (start > 0)[:, None]).any(0)
    first = int(recurrent.int().argmax())
    other = recurrent & ~reached[first]
    if bool(other.any()):
        raise ValueError(
            f"the chain has no single stationary distribution: it can stay forever around "
            f"state {first} or around state {int(other.int().argmax())}"
        )
    (members,) = recurrent.nonzero(as_tuple=True)
    inside = P[members][:, members]
    # For d = dP with d·1 = 1: d(I − P + 1uᵀ) = uᵀ, and that matrix is regular.
    identity = torch.eye(len(members), dtype=P.dtype, device=P.device)
    uniform = torch.full_like(identity[0], 1 / len(members))
    solution = torch.linalg.solve((identity - inside + uniform).mT, uniform).clamp(min=0)
    return torch.zeros_like(P[0]).index_put((members,), solution / solution.sum())


def _check_square(transition: Tensor) -> None:
    if transition.ndim != 2 or transition.shape[0] != transition.shape[1] or not len(transition):
        raise ValueError(
            f"transition must be a square matrix of at least one state, not of shape "
            f"{tuple(transition.shape)}"
        )


def _check_rows(transition: Tensor, sums_to_one: bool) -> None:
    if not bool(torch.isfinite(transition).all()):
        raise ValueError("transition holds a number that is not finite")
    if bool((transition < 0).any()):
        row, column = (transition < 0).nonzero()[0].tolist()
        raise ValueError(
            f"transition from state {row} to state {column} has the negative probability "
            f"{float(transition[row, column]):g}"
        )
    sums = transition.sum(1)
    wrong = sums > 1 + TOLERANCE
    if sums_to_one:
        wrong = wrong | (sums < 1 - TOLERANCE)
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        allowed = "1" if sums_to_one else "at most 1"
        raise ValueError(
            f"row {row} of transition sums to {float(sums[row]):.6g}, but must sum to {allowed}"
        )


def _check_chain(transition: Tensor, reward: Tensor, discount: float, weighting: Tensor) -> None:
    """Raise ValueError with one line where the four do not make a Markov chain."""
    _check_square(transition)
    states = len(transition)
    for name, vector in (("reward", reward), ("weighting", weighting)):
        if vector.shape != (states,):
            raise ValueError(
                f"{name} must have shape ({states},), one number per state, not "
                f"{tuple(vector.shape)}"
            )
        if not bool(torch.isfinite(vector).all()):
            raise ValueError(f"{name} holds a number that is not finite")
    _check_rows(transition, sums_to_one=False)
    if bool((weighting < 0).any()):
        raise ValueError(f"weighting of state {int((weighting < 0).int().argmax())} is negative")
    if abs(float(weighting.sum()) - 1) > TOLERANCE:
        raise ValueError(f"weighting sums to {float(weighting.sum()):.6g}, but must sum to 1")
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount:g}, but must lie in [0, 1]")
    if discount == 1:
        ending = transition.sum(1) < 1 - TOLERANCE
        endless = ~(reachability(transition) & ending).any(1)
        if bool(endless.any()):
            raise ValueError(
                f"discount is 1 on a chain that never ends from state "
                f"{int(endless.int().argmax())}, so that its value is not defined: "
                f"give a discount below 1, or an end"
            )


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
        _check_chain(self.transition, self.reward, self.discount, self.weighting)

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
