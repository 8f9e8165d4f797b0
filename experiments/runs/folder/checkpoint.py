"""Checkpoints: dicts of tensors and plain values, which load without running anybody's code."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from experiments.runs.folder.files import atomic_write, write_bytes
from neural_tdc.tensor_file import load_tensors, save_tensors

_FORMAT = "neural_tdc checkpoint 1"


def _storable(value: Any, where: str) -> Any:
    """Return a value with its tensors on the CPU and in storages of their own size."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        # A view would take the whole storage behind it into the file.
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        return tensor if whole else tensor.clone()
    if type(value) is dict:
        for key in value:
            if type(key) not in (int, str):
                raise TypeError(f"checkpoint{where} has the key {key!r}, not a string or integer")
        return {key: _storable(item, f"{where}[{key!r}]") for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_storable(item, f"{where}[{i}]") for i, item in enumerate(value))
    raise TypeError(f"checkpoint{where} is a {type(value).__name__}, no tensor or plain value")


def write_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write tensors and plain values whole or not at all, small enough to lie in memory twice.

    Raises OSError where the file cannot be written.
    """
    # In memory first: a full disk is then an OSError, which torch's own writer does not raise.
    laid_out = io.BytesIO()
    save_tensors(content, laid_out)
    write_bytes(path, laid_out.getvalue())


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all, with its tensors moved to the CPU.

    Allowed are tensors, None, bool, int, float, str, and dicts, lists and tuples of these.
    Raises TypeError for anything else (a NamedTuple, an array: they would not load again), OSError
    where the file cannot be written; a checkpoint written before is then still there.
    """
    content = {"format": _FORMAT, "state": _storable(state, "")}
    with atomic_write(path) as partial, partial.open("wb") as file:
        try:
            save_tensors(content, file)
        except RuntimeError as error:
            # torch's writer reports a disk that takes no more in this way.
            raise OSError(f"{path} cannot be written, is the disk full? ({error})") from None


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint that `save_checkpoint` wrote, its tensors on `device`.

    Raises ValueError in one line for a file that is missing, damaged, another program's, or that
    carries code.
    """
    content = load_tensors(path, _FORMAT, "checkpoint of this program", device)
    state = content.get("state")
    if not isinstance(state, dict):
        raise ValueError(f"{path} is not a checkpoint of this program")
    return state


def restored(like: Any, leaves: Sequence[torch.Tensor], path: Path) -> Any:
    """Return a state of the structure of `like` with the leaves that a checkpoint held.

    Raises ValueError in one line, naming the checkpoint, where shapes differ.
    """
    present, structure = tree_flatten(like)
    if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in present]:
        raise ValueError(
            f"{path} belongs to another run: its tensors have other shapes than this run's"
        )
    return tree_unflatten(leaves, structure)
