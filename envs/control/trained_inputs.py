"""Observations as a trained policy of another program, or of train_dqn, read them."""

from torch import Tensor


def in_trained_shape(observation: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return raw observations [n, …] as [n, *shape].

    shape: of the observations that the policy was trained on; () for single numbers

    Pictures with the channel last are turned where the policy has seen the channel first. Raises
    ValueError in one line for observations of another shape.
    """
    given = tuple(observation.shape[1:])
    if len(given) == 3 and given != shape and (given[2], *given[:2]) == shape:
        return observation.permute(0, 3, 1, 2)
    if given != (shape or (1,)):
        raise ValueError(f"it was trained on observations of shape {shape}, not {given}")
    return observation.reshape(-1, *shape)
