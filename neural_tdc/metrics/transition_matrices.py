"""Transition matrices: which states lead where, how often each is met, and what makes a chain."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Rows may miss 1 by the rounding of a table once written in single precision.
TOLERANCE = 1e-6


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


def check_chain(transition: Tensor, reward: Tensor, discount: float, weighting: Tensor) -> None:
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
