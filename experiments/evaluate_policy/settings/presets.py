"""The presets of the library as flags of policy evaluation, a layer below what is given."""

from collections.abc import Mapping
from typing import Any

from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.settings import flag_of
from neural_tdc.presets import PRESETS

# What every preset settles: steps of one rule mean little for another, and little one by one.
SETTLED = ("auxiliary_step", "body_step", "head_step", "rule")
# Settings of the body that the preset makes, which another body or given features cannot have.
OF_NETWORK = {"hidden": "hidden", "constant": "constant_feature"}


def preset_flags(name: str) -> dict[str, Any]:
    """Return {field: value} of the settings that a preset of the library stands for."""
    keywords = dict(PRESETS[name])
    flags = {"rule": (keywords.pop("rule"),)}
    if "body" in keywords:
        body = keywords.pop("body").keywords
        flags |= {OF_NETWORK[setting]: value for setting, value in body.items()}
    if "optimizer" in keywords:
        flags["optimizer"] = (keywords.pop("optimizer"),)
    if "trace_decay" in keywords:
        flags["lambda_"] = keywords.pop("trace_decay")
    return {**flags, **keywords}


def preset_values(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of the preset that was given, {} without one.

    given: {field: value} of the command line

    Raises UsageError for a value that was given though the preset sets it. That there is such a
    preset is checked with the other settings.
    """
    name = given.get("preset")
    if name is None or name not in PRESETS:
        return {}
    values = preset_flags(name)
    for field in sorted({*SETTLED, *values}):
        if field in given:
            raise UsageError(
                f"{flag_of(field)} and --preset {name} exclude each other: the preset sets it"
            )
    other_body = given.get("features") == "given" or given.get("body", "mlp") != "mlp"
    left_out = OF_NETWORK.values() if other_body else ()
    return {field: value for field, value in values.items() if field not in left_out}
