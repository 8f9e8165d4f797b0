"""The reader of .npz files refuses in one line what is none."""

import zipfile

import numpy as np
import pytest

from envs.logs.reading import read_log
from tests.envs.logs.log_arrays import LOG


def test_arrays_of_other_names_are_left_alone_even_pickled_ones(written):
    note = np.array([{"why": "a note"}], dtype=object)
    assert len(read_log(written(note=note, info=np.zeros(3))).reward) == 7


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a .npz file"),
        (b"observation,action\n1,2\n", "is not a .npz file"),
        (b"\x80\x04]\x94.", "is not a .npz file"),
    ],
)
def test_what_is_no_npz_file_is_refused(tmp_path, content, said):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_log(path)


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read: File name too long"):
        read_log(tmp_path / ("n" * 300))


def test_a_single_array_is_no_log(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"is not a \.npz file"):
        read_log(tmp_path / "one.npy")


def test_a_file_that_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.npz does not exist"):
        read_log(tmp_path / "nowhere.npz")
    with pytest.raises(ValueError, match="is not a file"):
        read_log(tmp_path)


def test_a_damaged_file_names_the_array(written):
    path = written()
    content = bytearray(path.read_bytes())
    place = content.find(LOG["reward"].tobytes())
    content[place] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"reward is damaged: .*CRC"):
        read_log(path)


def test_a_member_that_is_no_array_is_refused(written):
    path = written(reward=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("reward", b"1,2,3")
    with pytest.raises(ValueError, match="reward is not an array"):
        read_log(path)
