"""Settings of policy evaluation by name: what came out best where all were tuned alike."""

from collections.abc import Sequence

from experiments.runs.checks import UsageError, check_choice
from experiments.runs.command_line import completed, given_flags, value_of

FLAG = "--preset"
# What a preset settles: steps of one rule mean little for another, and little one by one.
SETTLED = ("--rule", "--body-step", "--head-step", "--auxiliary-step")
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
    """Put the flags of the preset that a command line names before it.

    Raises UsageError for a preset that there is none of, and for a flag that it settles.
    """
    name = value_of(FLAG, argv)
    if name is None or {"-h", "--help"} & set(argv):
        return list(argv)
    flags = PRESETS[check_choice(FLAG, name, PRESETS)]
    for flag in sorted(given_flags(argv) & set(SETTLED)):
        raise UsageError(f"{flag} and {FLAG} {name} exclude each other: the preset settles it")
    return completed(argv, flags)
