"""Presets: settings of policy evaluation by name, by what they are for."""

from collections.abc import Mapping
from typing import Any

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.settings import flag_of

# What every preset settles: steps of one rule mean little for another, and little one by one.
SETTLED = ("auxiliary_step", "body_step", "head_step", "rule")
# Layers of the preset's network, which another body or given features have no use for.
OF_NETWORK = ("hidden", "constant_feature")
# What a step size means the same for on every problem: rewards divided by the scale of returns.
_KNOWN_SCALE: dict[str, Any] = {"reward_scale": "auto", "hidden": (64,), "constant_feature": True}
# docs/presets.md has the evidence and the command that chose them; for `on-policy` it is
# docs/body-rules.md.
PRESETS: dict[str, dict[str, Any]] = {
    # TD(0.9) on one segment of 8 transitions an update.
    "fast": {
        **_KNOWN_SCALE,
        "rule": ("td",),
        "sampling": "sequences",
        "batch": 1,
        "sequence_length": 8,
        "lambda_": 0.9,
        "optimizer": ("adam",),
        "schedule": "linear",
        "body_step": 3e-3,
        "head_step": 3e-3,
    },
    # TD(0.95) on four segments of 16 transitions an update.
    "accurate": {
        **_KNOWN_SCALE,
        "rule": ("td",),
        "sampling": "sequences",
        "batch": 4,
        "sequence_length": 16,
        "lambda_": 0.95,
        "optimizer": ("adam",),
        "schedule": "linear",
        "body_step": 3e-3,
        "head_step": 3e-3,
    },
    # Regularised corrections on 32 transitions an update.
    "off-policy": {
        **_KNOWN_SCALE,
        "rule": ("tdrc",),
        "sampling": "iid",
        "batch": 32,
        "optimizer": ("adam",),
        "schedule": "linear",
        "body_step": 3e-3,
        "head_step": 3e-2,
        "auxiliary_step": 3e-2,
    },
    # Algorithm 1 with the decay of Theorem 3.6.
    "paper": {
        **_KNOWN_SCALE,
        "rule": ("tdc",),
        "schedule": "general",
        "body_step": 2**-3,
        "head_step": 100 * 2**-3,
        "auxiliary_step": 100 * 2**-8,
    },
    # TD with absolute steps whose head learns a hundred times faster than its body.
    "on-policy": {"rule": ("td",), "body_step": 2**-11, "head_step": 100 * 2**-11},
}


def preset_values(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of the preset that was given, {} without one.

    given: {field: value} of the command line

    Raises UsageError for a value that was given though the preset settles it. That there is such a
    preset is checked with the other settings.
    """
    name = given.get("preset")
    values = PRESETS.get(name or "", {})
    for field in sorted({*SETTLED, *values}) if values else ():
        if field in given:
            raise UsageError(
                f"{flag_of(field)} and --preset {name} exclude each other: the preset settles it"
            )
    other_body = given.get("features") == "given" or given.get("body", "mlp") != "mlp"
    left_out = OF_NETWORK if other_body else ()
    return {field: value for field, value in values.items() if field not in left_out}
