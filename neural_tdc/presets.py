"""Presets: the keywords of `evaluate` by name, by what they are for.

    evaluate(transitions, **preset("accurate"), steps=20_000)

docs/presets.md has the evidence and the command that chose them; for `on-policy` it is
docs/body-rules.md.
"""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from neural_tdc.networks.bodies import mlp

# What a step size means the same for on every problem: rewards divided by the scale of returns.
_KNOWN_SCALE: dict[str, Any] = {
    "reward_scale": "auto",
    "body": partial(mlp, hidden=(64,), constant=True),
}
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # TD(0.9) on one segment of 8 transitions an update.
        "fast": {
            **_KNOWN_SCALE,
            "rule": "td",
            "sampling": "sequences",
            "batch": 1,
            "sequence_length": 8,
            "trace_decay": 0.9,
            "optimizer": "adam",
            "schedule": "linear",
            "body_step": 3e-3,
            "head_step": 3e-3,
        },
        # TD(0.95) on four segments of 16 transitions an update.
        "accurate": {
            **_KNOWN_SCALE,
            "rule": "td",
            "sampling": "sequences",
            "batch": 4,
            "sequence_length": 16,
            "trace_decay": 0.95,
            "optimizer": "adam",
            "schedule": "linear",
            "body_step": 3e-3,
            "head_step": 3e-3,
        },
        # Regularised corrections on 32 transitions an update.
        "off-policy": {
            **_KNOWN_SCALE,
            "rule": "tdrc",
            "sampling": "iid",
            "batch": 32,
            "optimizer": "adam",
            "schedule": "linear",
            "body_step": 3e-3,
            "head_step": 3e-2,
            "auxiliary_step": 3e-2,
        },
        # Algorithm 1 with the decay of Theorem 3.6.
        "paper": {
            **_KNOWN_SCALE,
            "rule": "tdc",
            "schedule": "general",
            "body_step": 2**-3,
            "head_step": 100 * 2**-3,
            "auxiliary_step": 100 * 2**-8,
        },
        # TD with absolute steps whose head learns a hundred times faster than its body.
        "on-policy": {"rule": "td", "body_step": 2**-11, "head_step": 100 * 2**-11},
    }
)


def preset(name: str) -> dict[str, Any]:
    """Return the keyword arguments of `evaluate` for a preset, as a new table.

    `fast` and `accurate` are TD(λ) on-policy, `off-policy` is TDRC, `paper` is Algorithm 1, and
    `on-policy` is TD with absolute steps. The body is among the keywords where it is not the
    default one. Raises ValueError for another name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is not one of {', '.join(PRESETS)}")
    return dict(PRESETS[name])
