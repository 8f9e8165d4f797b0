"""The presets of `evaluate_policy` as keywords of `neural_tdc.evaluate`.

A benchmark imports nothing of the programs, so their values are written here again; a test compares
them.
"""

from functools import partial
from typing import Any

from neural_tdc.networks.bodies import mlp

_KNOWN_SCALE: dict[str, Any] = {"reward_scale": "auto", "hidden": (64,), "constant_feature": True}
# By preset, the values of the flags that it stands for.
PRESET_FLAGS: dict[str, dict[str, Any]] = {
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
    "paper": {
        **_KNOWN_SCALE,
        "rule": ("tdc",),
        "schedule": "general",
        "body_step": 2**-3,
        "head_step": 100 * 2**-3,
        "auxiliary_step": 100 * 2**-8,
    },
    "on-policy": {"rule": ("td",), "body_step": 2**-11, "head_step": 100 * 2**-11},
}
# Whether another policy acts on the problems that a preset is for; the others are for both kinds.
OFF_POLICY = {"fast": False, "accurate": False, "on-policy": False, "off-policy": True}


def evaluate_keywords(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of `evaluate` that mean what the flags do."""
    (rule,) = flags["rule"]
    rest = {name: value for name, value in flags.items() if name != "rule"}
    if "lambda_" in rest:
        rest["trace_decay"] = rest.pop("lambda_")
    body = {
        "hidden": rest.pop("hidden", (32,)),
        "constant": rest.pop("constant_feature", False),
    }
    return {"rule": rule, "body": partial(mlp, **body), **rest}
