"""The lowest versions that are promised, as they are installed to try them."""

import configparser

import pytest

from tests.lowest_versions import SETUP, lowest_versions

TEXT = """
[options]
install_requires =
    torch>=2.11
[options.extras_require]
games =
    # for games
    gymnasium[mujoco]>=1.2
    ale-py>=0.11.1
more =
    gymnasium>=1.2
wrong =
    gymnasium>=1.3
open =
    tqdm
"""


def test_every_requirement_is_read_with_its_lowest_version():
    found = lowest_versions(TEXT, ["games", "more"])
    assert found == {"torch": "2.11", "gymnasium": "1.2", "ale-py": "0.11.1"}


@pytest.mark.parametrize(
    ("extra", "message"),
    [("wrong", "gymnasium has the bounds 1.2 and 1.3"), ("open", "'tqdm' is not of the form")],
)
def test_a_requirement_without_one_lowest_version_is_refused(extra, message):
    with pytest.raises(ValueError, match=message):
        lowest_versions(TEXT, ["games", extra])


def test_everything_that_setup_promises_has_a_lowest_version():
    text = SETUP.read_text(encoding="utf-8")
    config = configparser.ConfigParser()
    config.read_string(text)
    found = lowest_versions(text, list(config["options.extras_require"]))
    assert {"torch", "numpy", "gymnasium", "stable-baselines3"} <= set(found)
