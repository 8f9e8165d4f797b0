"""The settings that presets are chosen from: families of settings, each with a grid of steps.

All learn at a known scale: standardised observations, rewards divided by the deviation of the
returns, a constant feature. A family is one compiled program for a problem; its grid is a part of
the population.
"""

from typing import Any, NamedTuple

# On-policy and off-policy problems that presets are chosen on: name, evaluated policy, behaviour.
ON_POLICY = (
    ("MountainCar-v0", "default", None),
    ("CartPole-v1", "default", None),
    ("garnet-1", None, None),
)
OFF_POLICY = (
    ("MountainCar-v0", "default", "soft"),
    ("CartPole-v1", "default", "soft"),
    ("garnet-off-policy-1", None, None),
)


class Family(NamedTuple):
    """Settings that differ in step sizes only.

    purpose:  the preset that they are candidates for
    sampling: name, batch, sequence length
    steps:    (body, head, auxiliary) step sizes
    """

    name: str
    purpose: str
    rule: str
    sampling: tuple[str, int, int]
    decay: float
    optimizer: str
    schedule: str
    steps: tuple[tuple[float, float, float], ...]


def _adam(auxiliary: tuple[float, ...] = (1.0,)) -> tuple[tuple[float, float, float], ...]:
    return tuple(
        (body, ratio * body, eta * ratio * body)
        for body in (3e-4, 1e-3, 3e-3)
        for ratio in (1.0, 10.0)
        for eta in auxiliary
    )


def _sgd(
    bodies: tuple[float, ...], ratios: tuple[float, ...], eta: float
) -> tuple[tuple[float, float, float], ...]:
    return tuple((body, ratio * body, eta * ratio * body) for body in bodies for ratio in ratios)


_SMALL, _LARGE = (2**-11, 2**-9, 2**-7), (2**-7, 2**-5, 2**-3)
_ONE, _MANY = ("markov", 1, 1), ("iid", 32, 1)
FAMILIES = (
    Family(
        "td, SGD, stream",
        "fast",
        "td",
        _ONE,
        0.0,
        "sgd",
        "linear",
        _sgd(_SMALL, (1.0, 10.0, 100.0), 1.0),
    ),
    Family("td, Adam, stream", "fast", "td", _ONE, 0.0, "adam", "linear", _adam()),
    Family("td(0.9), 1 × 8", "fast", "td", ("sequences", 1, 8), 0.9, "adam", "linear", _adam()),
    Family("td, 32", "accurate", "td", _MANY, 0.0, "adam", "linear", _adam()),
    Family("td(0.9), 4 × 8", "accurate", "td", ("sequences", 4, 8), 0.9, "adam", "linear", _adam()),
    Family(
        "td(0.95), 4 × 16", "accurate", "td", ("sequences", 4, 16), 0.95, "adam", "linear", _adam()
    ),
    Family("td, 32", "off-policy", "td", _MANY, 0.0, "adam", "linear", _adam()),
    Family("tdrc, 32", "off-policy", "tdrc", _MANY, 0.0, "adam", "linear", _adam((0.1, 1.0))),
    Family(
        "generalized+tdc, 32",
        "off-policy",
        "generalized+tdc",
        _MANY,
        0.0,
        "adam",
        "linear",
        _adam((0.1, 1.0)),
    ),
    Family(
        "td(0.5), 4 × 8", "off-policy", "td", ("sequences", 4, 8), 0.5, "adam", "linear", _adam()
    ),
    Family(
        "tdc, general",
        "paper",
        "tdc",
        _ONE,
        0.0,
        "sgd",
        "general",
        _sgd(_LARGE, (10.0, 100.0), 2**-5),
    ),
    Family(
        "tdc, constant",
        "paper",
        "tdc",
        _ONE,
        0.0,
        "sgd",
        "constant",
        _sgd(_SMALL, (10.0, 100.0), 2**-5),
    ),
)


def problems_of(family: Family) -> tuple[tuple[str, Any, Any], ...]:
    """Return the problems that a family is tried on."""
    return OFF_POLICY if family.purpose == "off-policy" else ON_POLICY
