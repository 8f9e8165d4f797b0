"""The settings of methods that learn from all transitions at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from experiments.runs.command_line.checks import named
from experiments.runs.command_line.requirements import count, from_to, one_of
from experiments.runs.command_line.settings import CheckedSettings, Idle
from neural_tdc.baselines.method import Method
from neural_tdc.baselines.stackelberg_method import SOLVES

# {flag's field: setting of the methods that take it}.
OF_METHODS = {
    "baseline_lambda": "trace_decay",
    "random_features": "random_features",
    "updates": "updates",
    "solves": "solves",
}
# What a run of methods alone takes besides what the search for the best value function takes.
FOR_METHODS = frozenset(
    (
        *("runs", "held_out", "held_out_fraction", "measure_on"),
        *("prefixes", "baseline_lambda", "random_features", "solves"),
    )
)


@dataclass(frozen=True, kw_only=True)
class MethodSettings(CheckedSettings):
    """Methods that learn from all transitions at once (constant, lstd-random, …)."""

    prefixes: Annotated[int, count(1)] = 4
    """Number of points of a method's curve: it learns from the first 1/N of the data, then again
    from the first 2/N, and so on."""
    baseline_lambda: Annotated[float | None, from_to(0, 1)] = None
    """λ of the λ-returns and of LSTD(λ) in a method. Default: 0.9, and 0.95 for fitted."""
    random_features: Annotated[int | None, count(1)] = None
    """Number of random features of a method. Default: 256, and 192 for stackelberg-td."""
    solves: Annotated[str, one_of(SOLVES)] = "end"
    """When stackelberg-td solves its head: at the end only, or also at every refit."""


def with_flags(method: Method, settings: Any) -> Method:
    """Return a method with the settings that flags gave it."""
    given = {
        setting: value
        for flag, setting in OF_METHODS.items()
        if setting in method.settings and (value := getattr(settings, flag)) is not None
    }
    # All other numbers are within their bounds; the search takes no updates as well.
    with named(f"--updates {settings.updates} with --rule {method.name}"):
        return method.with_settings(**given)


def idle_method_settings(settings: Any, methods: Mapping[str, Method], *, auto: bool) -> list[Idle]:
    """Return the settings of methods that change nothing for these methods.

    auto: whether the search for the best value function runs as well
    """
    taken = {setting for method in methods.values() for setting in method.settings}
    chosen = f"with --rule {' '.join(settings.rule)}"
    idle = []
    if not methods:
        idle.append(Idle(("prefixes",), f"{chosen}, only with methods such as lstd-random"))
    for flag, setting in OF_METHODS.items():
        if setting not in taken and not (auto and flag == "updates"):
            takers = ", ".join(sorted(takers_of(setting))) + (" or auto" * (flag == "updates"))
            idle.append(Idle((flag,), f"{chosen}, only with {takers}"))
    return idle


def takers_of(setting: str) -> list[str]:
    """Return the names of the methods that take a setting."""
    from neural_tdc.baselines.methods import METHODS

    return [name for name, method in METHODS.items() if setting in method.settings]
