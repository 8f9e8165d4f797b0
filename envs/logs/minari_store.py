"""The reader of Minari's data sets from the local store: episodes with one observation more.

An observation is encoded as that of an environment is: see `envs.control.environments`.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.control.environments import observation_encoder
from envs.logs.columns import Columns, Tail
from envs.names import closest_names
from neural_tdc.device_memory import check_memory

PREFIX = "minari:"
_PLAIN = {"reward": "rewards", "terminated": "terminations", "truncated": "truncations"}


@contextlib.contextmanager
def open_minari(source: str) -> Iterator[Columns]:
    """Open a data set by `minari:ID`. ValueError in one line for what is not there or not usable.

    The last observations of episodes are in `Columns.tail`. Numbers in the infos are found as
    infos/NAME.
    """
    name = source.removeprefix(PREFIX)
    if not name:
        raise ValueError(f"{source} names no data set: give {PREFIX}ID")
    data = _loaded(source, name)
    steps, episodes = int(data.total_steps), int(data.total_episodes)
    if not steps:
        raise ValueError(f"{source} is empty: it has {episodes} episodes and no step")
    encode, shape, dtype = _encoder(source, data.spec.observation_space)
    check_memory(source, (steps + episodes) * int(np.prod(shape)) * dtype.itemsize, "cpu")
    observation = np.empty((steps, *shape), dtype)
    tail = np.empty((episodes, *shape), dtype)
    plain: dict[str, list[np.ndarray]] = {}
    ends, begin = [], 0
    for number, episode in enumerate(data.iterate_episodes()):
        length = len(episode.rewards)
        seen = encode(episode.observations)
        if len(seen) != length + 1:
            raise ValueError(
                f"{source}: episode {episode.id} has {length} steps and {len(seen)} observations; "
                f"it must have {length + 1}"
            )
        observation[begin : begin + length], tail[number] = seen[:-1], seen[-1]
        begin += length
        ends.append(begin - 1)
        for name_of, array in _arrays(episode, length).items():
            plain.setdefault(name_of, []).append(array)
    # What not every episode has is nothing to learn from.
    arrays = {key: np.concatenate(each) for key, each in plain.items() if len(each) == episodes}
    arrays["observation"] = observation
    # An episode that was cut in recording is cut here, marked or not.
    arrays["truncated"][ends] |= ~arrays["terminated"][ends].astype(bool)
    _number_from_zero(data.spec.action_space, arrays)
    yield Columns(
        source,
        tuple(arrays),
        lambda key: arrays.pop(key) if key == "observation" else arrays[key],
        lambda key: 0,
        tail=Tail(np.array(ends), tail),
        bounds=_bounds(data.spec.action_space),
    )


def stored_at(source: str) -> Path:
    """Return the folder of a data set in the local store."""
    from minari.storage import get_dataset_path

    return get_dataset_path(source.removeprefix(PREFIX))


def _loaded(source: str, name: str) -> Any:
    try:
        import minari
    except ImportError:
        raise ValueError(
            f"{source} needs the package minari, which is not installed: pip install 'minari[hdf5]'"
        ) from None
    try:
        known = list(minari.list_local_datasets())
        if name in known:
            return minari.load_dataset(name)
    except Exception as error:  # A data set may be damaged in any way.
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{source} cannot be loaded: {said:.200}") from error
    near = closest_names(name, known)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    there = f"it has {', '.join(known[:20])}" if known else "it is empty"
    raise ValueError(
        f"{source} is not in the local store {minari.storage.get_dataset_path('')}; {there}{hint}"
        + ("" if hint else f"; to download it: minari download {name}")
    )


def _encoder(
    source: str, space: Any
) -> tuple[Callable[[Any], np.ndarray], tuple[int, ...], np.dtype]:
    """Return what encodes the observations of an episode, their shape and their type."""
    shape, encode = observation_encoder(source, space)
    if isinstance(space, spaces.Box):
        return lambda seen: np.asarray(seen).reshape(-1, *shape), shape, np.dtype(space.dtype)
    if isinstance(space, spaces.Discrete):
        return lambda seen: np.stack(list(map(encode, seen))), shape, np.dtype(np.float32)

    def each(seen: Any) -> np.ndarray:
        return np.stack([encode(_at(seen, time)) for time in range(_length(seen))])

    return each, shape, np.dtype(np.float32)


def _at(seen: Any, time: int) -> Any:
    if isinstance(seen, dict):
        return {key: _at(part, time) for key, part in seen.items()}
    if isinstance(seen, tuple):
        return tuple(_at(part, time) for part in seen)
    return seen[time]


def _length(seen: Any) -> int:
    if isinstance(seen, dict | tuple):
        return _length(next(iter(seen.values() if isinstance(seen, dict) else seen)))
    return len(seen)


def _arrays(episode: Any, length: int) -> dict[str, np.ndarray]:
    found = {name: np.asarray(getattr(episode, own)) for name, own in _PLAIN.items()}
    if isinstance(episode.actions, np.ndarray):
        found["action"] = episode.actions
    for name, array in _infos(episode.infos or {}, "infos"):
        # Infos begin with that of the reset, where there is one.
        if len(array) in (length, length + 1):
            found[name] = array[len(array) - length :]
    return found


def _infos(infos: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    for key, value in infos.items():
        if isinstance(value, dict):
            yield from _infos(value, f"{path}/{key}")
        elif isinstance(value, np.ndarray) and value.ndim and value.dtype.kind in "biuf":
            yield f"{path}/{key}", value


def _bounds(space: Any) -> tuple[np.ndarray, np.ndarray] | None:
    return (space.low, space.high) if isinstance(space, spaces.Box) else None


def _number_from_zero(space: Any, arrays: dict[str, np.ndarray]) -> None:
    if isinstance(space, spaces.Discrete) and "action" in arrays:
        arrays["action"] = arrays["action"] - int(space.start)
