"""Settings of policy evaluation by name: what came out best where all were tuned alike."""

from collections.abc import Mapping
from typing import Any

from experiments.runs.checks import UsageError
from experiments.runs.settings import flag_of

# What a preset settles: steps of one rule mean little for another, and little one by one.
SETTLED = ("auxiliary_step", "body_step", "head_step", "rule")
# docs/body-rules.md has the evidence, and says what it is no evidence for.
PRESETS: dict[str, dict[str, Any]] = {
    # TD whose head learns a hundred times faster than its body.
    "on-policy": {"rule": ("td",), "body_step": 2**-11, "head_step": 100 * 2**-11},
    # The body's auxiliary vector lives on a second, frozen feature map; head and both auxiliary
    # vectors as in TDC.
    "off-policy": {
        "rule": ("generalized+tdc",),
        "body_step": 2**-7,
        "head_step": 10 * 2**-7,
        "auxiliary_step": 10 * 2**-12,
    },
}


def preset_values(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of the preset that was given, {} without one.

    given: {field: value} of the command line

    Raises UsageError for a value that was given though the preset settles it. That there is such a
    preset is checked with the other settings.
    """
    name = given.get("preset")
    for field in SETTLED:
        if name in PRESETS and field in given:
            raise UsageError(
                f"{flag_of(field)} and --preset {name} exclude each other: the preset settles it"
            )
    return PRESETS.get(name or "", {})
