"""Readers of image files: layouts, damage, and pickles that want more than arrays."""

import gzip
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from experiments.runs.command_line.checks import UsageError
from experiments.train_supervised import image_files
from experiments.train_supervised.image_files import read_cifar_batch, read_idx, read_images


def write_cifar(folder, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    source = np.random.default_rng(seed)
    parts = []
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        pictures = source.integers(256, size=(3, 3072)).astype(np.uint8)
        labels = source.integers(10, size=3).tolist()
        batch = {b"data": pictures, b"labels": labels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
        parts.append((pictures, labels))
    return parts


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("task", "inside"),
    [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw"), ("mnist", "."),
     ("fashion-mnist", ".")],
)  # fmt: skip
def test_idx_files_are_read_in_torchvisions_layout_and_flat(
    tmp_path, idx_files, task, inside, compressed
):
    expected = idx_files(tmp_path / inside, compressed)
    for found, (pixels, labels) in zip(read_images(task, tmp_path), expected, strict=True):
        assert found.pixels.dtype == np.uint8
        np.testing.assert_array_equal(found.pixels, pixels)
        np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.parametrize("inside", ["cifar-10-batches-py", "."])
def test_the_five_batches_of_cifar_are_joined_in_their_order(tmp_path, inside):
    parts = write_cifar(tmp_path / inside)
    train, test = read_images("cifar10", tmp_path)
    np.testing.assert_array_equal(train.pixels, np.concatenate([part[0] for part in parts[:5]]))
    assert train.labels.tolist() == [label for part in parts[:5] for label in part[1]]
    np.testing.assert_array_equal(test.pixels, parts[5][0])


def test_the_systems_folder_serves_where_no_folder_is_given(tmp_path, monkeypatch, idx_files):
    monkeypatch.chdir(tmp_path)
    system = tmp_path / "system"
    expected = idx_files(system, compressed=True)
    source = image_files.SOURCES["fashion-mnist"]._replace(extra=(system,))
    monkeypatch.setitem(image_files.SOURCES, "fashion-mnist", source)
    train, _ = read_images("fashion-mnist", None)
    np.testing.assert_array_equal(train.labels, expected[0][1])
    own = idx_files(tmp_path / "data", seed=1)
    np.testing.assert_array_equal(read_images("fashion-mnist", None)[0].labels, own[0][1])
    # A folder that is named is meant, even if it is empty.
    with pytest.raises(UsageError, match="train-images-idx3-ubyte of Fashion-MNIST is missing"):
        read_images("fashion-mnist", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("task", "file", "folder", "how"),
    [
        ("mnist", "train-images-idx3-ubyte", "MNIST/raw", "torchvision.datasets.MNIST"),
        ("fashion-mnist", "train-images-idx3-ubyte", "FashionMNIST/raw", "apt-get install"),
        ("cifar10", "data_batch_1", "cifar-10-batches-py", "torchvision.datasets.CIFAR10"),
    ],
)
def test_a_missing_file_is_named_with_where_it_was_looked_for_and_how_to_get_it(
    tmp_path, task, file, folder, how
):
    with pytest.raises(UsageError) as error:
        read_images(task, tmp_path)
    said = str(error.value)
    assert said.startswith(f"--data {tmp_path}: {file} of ")
    assert f"looked in {tmp_path / folder}, {tmp_path}; " in said
    assert how in said
    assert "\n" not in said


def test_one_file_of_several_may_be_the_missing_one(tmp_path, idx_files):
    idx_files(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UsageError, match="t10k-labels-idx1-ubyte of MNIST is missing"):
        read_images("mnist", tmp_path)
    write_cifar(tmp_path)
    (tmp_path / "data_batch_4").unlink()
    with pytest.raises(UsageError, match="data_batch_4 of CIFAR-10 is missing"):
        read_images("cifar10", tmp_path)


# The header of two pictures of 3×5 pixels, and the pixels.
PICTURES = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 5]) + bytes(30)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not an IDX file"),
        (b"\0\0", "not an IDX file"),
        (b"<html>not found</html>", "not an IDX file"),
        (b"\0\0\x0d\x03" + PICTURES[4:], "its type is 13, not unsigned bytes"),
        (b"\0\0\x08\x09" + PICTURES[4:], "damaged"),
        (PICTURES[:9], "ends in its header"),
        (PICTURES[:-1], "30 bytes are announced and 29 there"),
        (PICTURES + b"\0", "30 bytes are announced and 31 there"),
    ],
)
def test_a_damaged_idx_file_is_named(tmp_path, content, said):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said) as error:
        read_idx(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("damage", [slice(0, -9), slice(0, 5), slice(3, None)])
def test_a_damaged_gzip_file_is_named(tmp_path, damage):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(PICTURES)[damage])
    with pytest.raises(UsageError, match=r"is damaged: .*; download it again"):
        read_idx(path)


def test_pictures_and_labels_that_do_not_belong_together_are_refused(
    tmp_path, idx_files, idx_bytes
):
    idx_files(tmp_path)
    labels = tmp_path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx_bytes(np.zeros(8)))
    with pytest.raises(UsageError, match="7 pictures and 8 labels"):
        read_images("mnist", tmp_path)
    labels.write_bytes(idx_bytes(np.full(7, 10)))
    with pytest.raises(UsageError, match="labels must lie between 0 and 9"):
        read_images("mnist", tmp_path)
    labels.write_bytes(idx_bytes(np.zeros((7, 1))))
    with pytest.raises(UsageError, match="has 2 dimensions, not 1"):
        read_images("mnist", tmp_path)


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("made by a pickle",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({b"data": Dangerous(), b"labels": [1]}, protocol=2),
        pickle.dumps({b"data": Path("x"), b"labels": [1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8)}, protocol=2),
        pickle.dumps({b"data": np.zeros((1, 3071), np.uint8), b"labels": [1]}, protocol=2),
        pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [1]}, protocol=2),
        pickle.dumps([1, 2], protocol=2),
        b"",
        b"no pickle at all",
    ],
    ids=["code", "class", "no labels", "size", "floats", "list", "empty", "text"],
)
def test_a_batch_that_is_damaged_or_carries_code_is_refused_and_runs_nothing(
    tmp_path, monkeypatch, content
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="data_batch_1 is damaged"):
        read_cifar_batch(path)
    assert not (tmp_path / "made by a pickle").exists()


@pytest.mark.parametrize("core", [b"numpy._core", b"numpy.core"])
def test_a_batch_as_python_2_and_any_numpy_wrote_it_is_read(tmp_path, core):
    pixels = np.arange(3072, dtype=np.uint8)[None]
    content = pickle.dumps({b"data": pixels, b"labels": [3]}, protocol=2)
    written = re.sub(rb"numpy\._?core\.multiarray", core + b".multiarray", content)
    assert core in written
    path = tmp_path / "data_batch_1"
    path.write_bytes(written)
    found = read_cifar_batch(path)
    np.testing.assert_array_equal(found.pixels, pixels)
    assert found.labels.tolist() == [3]
