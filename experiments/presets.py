"""Settings of policy evaluation by name: what came out best where all were tuned alike."""

from collections.abc import Sequence

from experiments.checks import check_choice
from experiments.command_line import completed, value_of

FLAG = "--preset"
# docs/body-rules.md has the evidence, and says what it is no evidence for.
PRESETS: dict[str, dict[str, list[str]]] = {
    # TD whose head learns a hundred times faster than its body.
    "on-policy": {
        "--rule": ["td"],
        "--body-step": [str(2**-11)],
        "--head-step": [str(100 * 2**-11)],
    },
    # The body's auxiliary vector lives on a second, frozen feature map; head and both auxiliary
    # vectors as in TDC.
    "off-policy": {
        "--rule": ["generalized+tdc"],
        "--body-step": [str(2**-7)],
        "--head-step": [str(10 * 2**-7)],
        "--auxiliary-step": [str(10 * 2**-12)],
    },
}


def with_preset(argv: Sequence[str]) -> list[str]:
    """Put the flags of the preset that a command line names before it; what it gives itself stays.

    Raises UsageError for a preset that there is none of.
    """
    name = value_of(FLAG, argv)
    if name is None:
        return list(argv)
    return completed(argv, PRESETS[check_choice(FLAG, name, PRESETS)])
