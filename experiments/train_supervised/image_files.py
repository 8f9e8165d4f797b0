"""Readers of labelled images: IDX files, gzipped or not, and CIFAR's pickled batches.

Folders are laid out as torchvision does it (`MNIST/raw`, `FashionMNIST/raw`, `cifar-10-batches-py`
in the folder given), or the files lie in the folder itself. Nothing is downloaded.
"""

import gzip
import io
import pickle
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.runs.command_line.checks import UsageError

# IDX type code of unsigned bytes.
_UNSIGNED_BYTE = 8
_PICTURE = 3 * 32 * 32
CLASSES = 10


class Images(NamedTuple):
    """Labelled images.

    pixels: [image, pixel] uint8
    labels: [image] int64 from 0 to 9
    """

    pixels: np.ndarray
    labels: np.ndarray


class Source(NamedTuple):
    """Where a data set's files are looked for, and how they are obtained.

    folders: in the folder of the user's, in this order; "" is that folder itself
    extra:   folders of the system
    """

    name: str
    folders: tuple[str, ...]
    extra: tuple[Path, ...]
    how: str


_IDX = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
_CIFAR = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "test": ("test_batch",),
}
SOURCES = {
    "mnist": Source(
        "MNIST",
        ("MNIST/raw", ""),
        (),
        "torchvision.datasets.MNIST(FOLDER, download=True) writes them",
    ),
    "fashion-mnist": Source(
        "Fashion-MNIST",
        ("FashionMNIST/raw", ""),
        (Path("/usr/share/datasets/fashion-mnist"),),
        "apt-get install dataset-fashion-mnist, or torchvision.datasets.FashionMNIST(FOLDER, "
        "download=True), writes them",
    ),
    "cifar10": Source(
        "CIFAR-10",
        ("cifar-10-batches-py", ""),
        (),
        "torchvision.datasets.CIFAR10(FOLDER, download=True) writes them",
    ),
}


def _find(name: str, source: Source, folder: Path | None) -> Path:
    """Return the path of a file, plain or gzipped; UsageError that says where it was looked for."""
    inside = [(folder or Path("data")) / part for part in source.folders]
    # A folder that the user names is meant: no other stands in for it.
    places = [*inside, *([] if folder else source.extra)]
    for place in places:
        for path in (place / name, place / f"{name}.gz"):
            if path.is_file():
                return path
    looked = ", ".join(str(place) for place in dict.fromkeys(places))
    given = f"--data {folder}" if folder else "--data is not given"
    raise UsageError(
        f"{given}: {name} of {source.name} is missing; looked in {looked}; {source.how}"
    )


def _content(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"--data: {path} is damaged: {error}; download it again") from None
    except OSError as error:
        raise UsageError(f"--data: {path} cannot be read: {error.strerror or error}") from None


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes; UsageError where it is damaged or of another type.

    Source: the format as Y. LeCun's page on MNIST describes it: two zero bytes, the type, the
    number of dimensions, the dimensions as big-endian 32-bit numbers, the values.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise UsageError(
            f"--data: {path} is not an IDX file: it does not begin with two zero bytes"
        )
    kind, dimensions = content[2], content[3]
    if kind != _UNSIGNED_BYTE or not 1 <= dimensions <= 3:
        raise UsageError(f"--data: {path} is damaged: its type is {kind}, not unsigned bytes")
    begin = 4 + 4 * dimensions
    if len(content) < begin:
        raise UsageError(f"--data: {path} is damaged: it ends in its header; download it again")
    shape = struct.unpack(f">{dimensions}I", content[4:begin])
    if len(content) - begin != int(np.prod(shape)):
        raise UsageError(
            f"--data: {path} is damaged: {int(np.prod(shape))} bytes are announced and "
            f"{len(content) - begin} there; download it again"
        )
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that makes NumPy arrays and plain values, and runs no other code."""

    _ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which a batch of images does not need"
            )
        if name == "_reconstruct":
            # Where it lies depends on NumPy's version, here and where the file was written.
            return np.empty(0).__reduce__()[0]
        return super().find_class(module, name)


def read_cifar_batch(path: Path) -> Images:
    """Read one batch of CIFAR-10; UsageError where it is damaged or holds more than arrays."""
    content = _content(path)
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"], dtype=np.int64)
    except Exception as error:  # What a damaged pickle raises depends on where it is damaged.
        said = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"--data: {path} is damaged, or is not a batch of CIFAR-10: {said}"
        ) from None
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != _PICTURE:
        raise UsageError(f"--data: {path} is damaged: its pictures have the shape {pixels.shape}")
    return Images(pixels, labels)


def _checked(images: Images, where: str) -> Images:
    pixels, labels = images
    if len(pixels) != len(labels) or not len(labels):
        raise UsageError(f"--data: {where}: {len(pixels)} pictures and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= CLASSES:
        raise UsageError(f"--data: {where}: labels must lie between 0 and {CLASSES - 1}")
    return images


def _read_idx_pair(names: Sequence[str], source: Source, folder: Path | None) -> Images:
    pictures, labels = (_find(name, source, folder) for name in names)
    pixels, marks = read_idx(pictures), read_idx(labels)
    for path, array, dimensions in ((pictures, pixels, 3), (labels, marks, 1)):
        if array.ndim != dimensions:
            raise UsageError(f"--data: {path} has {array.ndim} dimensions, not {dimensions}")
    flat = pixels.reshape(len(pixels), -1)
    return _checked(Images(flat, marks.astype(np.int64)), f"{pictures} and {labels}")


def _read_cifar(names: Sequence[str], source: Source, folder: Path | None) -> Images:
    paths = [_find(name, source, folder) for name in names]
    parts = [_checked(read_cifar_batch(path), str(path)) for path in paths]
    return Images(*(np.concatenate(arrays) for arrays in zip(*parts)))


def read_images(task: str, folder: Path | None) -> tuple[Images, Images]:
    """Read the training and the test images of `mnist`, `fashion-mnist` or `cifar10`.

    folder: the user's; None looks in `data` here and where the system keeps such files
    Raises UsageError in one line for a file that is missing or damaged.
    """
    source = SOURCES[task]
    read, names = (_read_cifar, _CIFAR) if task == "cifar10" else (_read_idx_pair, _IDX)
    train, test = (read(names[part], source, folder) for part in ("train", "test"))
    if train.pixels.shape[1] != test.pixels.shape[1]:
        raise UsageError(
            f"--data: training pictures of {train.pixels.shape[1]} pixels and test pictures of "
            f"{test.pixels.shape[1]}"
        )
    return train, test
