"""Environments for an agent that acts, by name, and what of their protocol is chosen."""

from envs.games.atari import ATARI, NATURE, AtariEnvironments, Protocol
from envs.games.discrete_control import MINATAR, control, minatar
from envs.games.stepping import Environments


def protocol_options(name: str) -> tuple[str, ...]:
    """Return the fields of `Protocol` that an environment of this name takes."""
    if name.startswith(ATARI):
        return Protocol._fields
    return ("sticky_actions",) if name.startswith(MINATAR) else ()


def make_environments(
    name: str,
    count: int,
    protocol: Protocol = NATURE,
    sticky_actions: float | None = None,
    threads: int = 0,
) -> Environments:
    """Make several environments of one name, ready to be reset.

    name:            ALE/GAME-v5, MinAtar/GAME, or any Gymnasium id with discrete actions
    protocol:        of Atari games
    sticky_actions:  replaces the probability of the protocol, and of MinAtar, where it is given
    threads:         that the emulators of Atari games share; 0 for all there are

    Raises ValueError in one line: an unknown name (with the nearest), a package that is not
    installed (with the line that installs it), actions that are not discrete.
    """
    if name.startswith(ATARI):
        if sticky_actions is not None:
            protocol = protocol._replace(sticky_actions=sticky_actions)
        return AtariEnvironments(name, count, protocol, threads)
    if name.startswith(MINATAR):
        return minatar(name, count, sticky_actions)
    return control(name, count)
