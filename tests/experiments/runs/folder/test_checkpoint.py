import os
import resource
import signal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from experiments.runs.folder.checkpoint import load_checkpoint, save_checkpoint
from neural_tdc.tensor_file import save_tensors


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


def state():
    return {
        "step": 300,
        "parameters": {"body": [torch.randn(3, 5), torch.zeros(0)], 2: torch.randn(4).double()},
        "random": torch.Generator().manual_seed(3).get_state(),
        "plain": [None, True, 1.5, "φ", (1, 2)],
    }


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    saved = state()
    save_checkpoint(tmp_path / "checkpoint.pt", saved)
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    assert loaded["plain"] == saved["plain"]
    assert loaded["step"] == 300
    for got, expected in zip(
        [*loaded["parameters"]["body"], loaded["parameters"][2], loaded["random"]],
        [*saved["parameters"]["body"], saved["parameters"][2], saved["random"]],
    ):
        assert got.dtype == expected.dtype
        assert torch.equal(got, expected)


def test_a_view_is_saved_without_what_it_is_a_view_of(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", {"row": torch.zeros(1000, 1000)[3]})
    assert (tmp_path / "checkpoint.pt").stat().st_size < 20_000
    assert load_checkpoint(tmp_path / "checkpoint.pt")["row"].shape == (1000,)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Pair(torch.ones(1), torch.ones(1)), r"checkpoint\['a'\]\[1\] is a Pair"),
        (np.ones(2), r"checkpoint\['a'\]\[1\] is a ndarray"),
        (Path("x"), r"\[1\] is a PosixPath"),
        (np.float64(1.0), r"\[1\] is a float64"),
        ({(1, 2): 3}, r"has the key \(1, 2\)"),
    ],
)
def test_what_would_not_load_again_is_not_saved(tmp_path, value, said):
    with pytest.raises(TypeError, match=said):
        save_checkpoint(tmp_path / "checkpoint.pt", {"a": [1, value]})
    assert list(tmp_path.iterdir()) == []


def test_any_flipped_byte_is_noticed_in_one_line(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"a": torch.arange(200.0), "b": {"c": [1, "two"]}})
    whole = path.read_bytes()
    for position in range(3, len(whole), 11):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        with pytest.raises(ValueError) as caught:
            load_checkpoint(path)
        assert str(caught.value) == f"{path} is damaged, or is not a checkpoint of this program"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_checkpoint_is_one_line(tmp_path, share):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, state())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged"):
        load_checkpoint(path)


def test_a_checkpoint_that_carries_code_is_refused_and_does_not_run_it(tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "done"),))

    path = tmp_path / "checkpoint.pt"
    with path.open("wb") as file:
        save_tensors({"format": "neural_tdc checkpoint 1", "state": {"a": Attack()}}, file)
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        load_checkpoint(path)
    assert not (tmp_path / "done").exists()


def test_another_programs_file_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    with pytest.raises(ValueError, match="does not exist"):
        load_checkpoint(path)
    for content in ({"weight": torch.ones(2)}, [torch.ones(2)]):
        with path.open("wb") as file:
            save_tensors(content, file)
        with pytest.raises(ValueError, match="is not a checkpoint of this program"):
            load_checkpoint(path)
        torch.save(content, path)
        with pytest.raises(ValueError, match="or is not a checkpoint of this program"):
            load_checkpoint(path)
    path.write_text("hello")
    with pytest.raises(ValueError, match="not a checkpoint of this program"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_checkpoint(tmp_path)


def test_a_full_disk_is_an_os_error_and_keeps_the_last_checkpoint(fork, tmp_path):
    path = tmp_path / "run" / "checkpoint.pt"
    path.parent.mkdir()
    save_checkpoint(path, {"step": 1})

    def save():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        try:
            save_checkpoint(path, {"a": torch.zeros(100_000)})
        except OSError as error:
            return 7 if "disk full" in str(error) else 1
        return 0

    done = fork(save).end()
    assert (done.status, done.error) == (7, "")
    assert load_checkpoint(path) == {"step": 1}
    assert [entry.name for entry in path.parent.iterdir()] == ["checkpoint.pt"]
