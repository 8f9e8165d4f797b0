"""What --policy and --behaviour may name: a name, a function, or a file of a trained policy."""

import inspect
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from envs.control.stable_baselines import stable_baselines_policy
from experiments.runs.command_line.checks import UsageError, load_part, named
from experiments.runs.folder.files import digest_of_files
from experiments.train_dqn.policy import load_policy

SB3 = "sb3:"
SUFFIX = ".pt"
DETERMINISTIC = "deterministic"


def is_file(value: str | None) -> bool:
    """Tell whether the value of --policy is a file of torch's: a checkpoint or a TorchScript."""
    return value is not None and value.endswith(SUFFIX) and ":" not in value


def is_torchscript(path: Path | str) -> bool:
    """Tell whether a file is one that `torch.jit.save` wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def is_dqn_checkpoint(value: str | None) -> bool:
    """Tell whether the value of --policy is taken as a checkpoint of train_dqn."""
    return is_file(value) and not is_torchscript(value or "")


def policy_files(value: str | None) -> list[Path]:
    """Return the files that the value of --policy names, none where it is a name or a function."""
    if value is not None and value.startswith(SB3):
        named_files = value.removeprefix(SB3).split(",")
        return [Path(each) for each in named_files if each != DETERMINISTIC]
    return [Path(value)] if value is not None and is_file(value) else []


def policy_contents(policy: str | None, behaviour: str | None) -> dict[str, str]:
    """Return {"policy_sha256" or "behaviour_sha256": the checksum} of policies that are files.

    A run is resumed with the same files only. A file that there is not is refused elsewhere.
    """
    named_policies = {"policy": policy_files(policy), "behaviour": policy_files(behaviour)}
    return {
        f"{name}_sha256": digest_of_files(files)
        for name, files in named_policies.items()
        if files and all(file.is_file() for file in files)
    }


def given_policy(value: str | None, flag: str) -> Any:
    """Return the policy of a flag: None, a name as it is, or a function or an object.

    UsageError in one line for a part or a file that cannot be used.
    """
    if value is None:
        return None
    if value.startswith(SB3):
        with named(f"{flag} {value}"):
            return _of_stable_baselines(value.removeprefix(SB3))
    if is_file(value):
        with named(f"{flag} {value}"):
            return _of_torchscript(Path(value)) if is_torchscript(value) else load_policy(value)
    if value.endswith(".zip"):
        raise UsageError(f"{flag} {value}: a file of Stable-Baselines3 is given as {SB3}{value}")
    return _own(value, flag) if ":" in value else value


def policy_maker(value: str) -> tuple[str, dict[str, Any] | None]:
    """Return module:function of a policy that is no name, for a file that is read elsewhere.

    The second value holds the keywords where that function makes the policy; None where it is the
    policy. Files are named by their whole paths.
    """
    if value.startswith(SB3):
        path, *options = value.removeprefix(SB3).split(",")
        whole = [each if each == DETERMINISTIC else str(Path(each).resolve()) for each in options]
        value = SB3 + ",".join([str(Path(path).resolve()), *whole])
    elif is_file(value):
        value = str(Path(value).resolve())
    elif not _makes_policy(_part(value, "--policy")):
        return value, None
    return f"{__name__}:{given_policy.__name__}", {"value": value, "flag": "--policy"}


def _of_stable_baselines(files: str) -> Any:
    path, *options = files.split(",")
    statistics = [each for each in options if each != DETERMINISTIC]
    if len(statistics) > 1:
        raise ValueError(f"give one file of statistics, not {' and '.join(statistics)}")
    return stable_baselines_policy(
        path, statistics[0] if statistics else None, DETERMINISTIC in options
    )


def _of_torchscript(path: Path) -> nn.Module:
    module = torch.jit.load(path, map_location="cpu").eval()
    module.__name__ = f"the module of {path.name}"
    return module


def _part(value: str, flag: str) -> Any:
    return load_part(value, flag, accepts=lambda part: callable(part) or hasattr(part, "sample"))


def _own(value: str, flag: str) -> Any:
    """Return a policy of the user's own; a class, or a function without arguments, makes it."""
    part = _part(value, flag)
    if not _makes_policy(part):
        return part
    with named(f"{flag} {value}"):
        made = part()
    if not callable(made) and not hasattr(made, "sample"):
        raise UsageError(
            f"{flag} {value} returned a {type(made).__name__}; without arguments it must make a "
            "policy: a function of observations, a module, or an object with sample"
        )
    return made


def _makes_policy(part: Any) -> bool:
    if isinstance(part, type):
        return True
    if isinstance(part, nn.Module) or hasattr(part, "sample"):
        return False
    try:
        return not inspect.signature(part).parameters
    except (TypeError, ValueError):  # A function of C without a signature.
        return False
