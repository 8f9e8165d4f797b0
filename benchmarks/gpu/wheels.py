"""Packages from a folder of wheels, for a machine without an index: those that are missing."""

import importlib.metadata
import os
import sys
import zipfile
from pathlib import Path


def missing_wheels(folder: Path) -> list[Path]:
    """Return the wheels of a folder whose packages are not installed.

    Raises ValueError where there is no wheel.
    """
    wheels = sorted(folder.glob("*.whl"))
    if not wheels:
        raise ValueError(f"--wheels {folder}: there is no file *.whl in this folder")
    return [wheel for wheel in wheels if not _installed(wheel.name.partition("-")[0])]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def unpack_missing(folder: Path, into: Path) -> list[str]:
    """Unpack the packages that are missing and let this process and its children import them.

    Return the names of their wheels.
    """
    wheels = missing_wheels(folder)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into)
    path = str(into.resolve())
    sys.path.insert(0, path)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [path, os.environ.get("PYTHONPATH")]))
    return [wheel.name for wheel in wheels]
