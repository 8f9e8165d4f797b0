"""The one line that is told of an error of other code."""

import pytest

from neural_tdc.messages import first_line


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("one\ntwo"), "one"),
        (ValueError("\n one"), "one"),
        (ValueError(" "), "ValueError"),
        (KeyError(), "KeyError"),
    ],
)
def test_it_is_the_first_line_or_the_type(error, expected):
    assert first_line(error) == expected
