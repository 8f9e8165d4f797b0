"""What holds in deep Q-learning where the command line says nothing, for each kind of problem."""

from typing import Any

from envs.games.atari import ATARI
from envs.games.discrete_control import MINATAR

# How the problems of a kind begin; the last kind is all others.
KINDS = (ATARI, MINATAR, "")
DEFAULTS: dict[str, tuple[Any, Any, Any]] = {
    "network": ("paper", "paper", "mlp"),
    "steps": (1_000_000, 300_000, 50_000),
    "body_step": (1e-4, 1e-4, 1e-3),
    "head_step": (2.5e-4, 2.5e-4, 2.5e-3),
    "optimizer": ("rmsprop", "adam", "adam"),
    "n_step": (1, 1, 3),
    "batch": (32, 32, 64),
    "replay_capacity": (100_000, 100_000, 50_000),
    "learning_starts": (10_000, 5_000, 1_000),
    "update_every": (4, 2, 2),
    "target_period": (10_000, 1_000, 200),
    "epsilon_last": (0.1, 0.05, 0.04),
    "epsilon_steps": (250_000, 100_000, 8_000),
    "reward_limit": (1.0, 0.0, 0.0),
    "measure_every": (5_000, 2_000, 1_000),
    "evaluate_every": (100_000, 25_000, 5_000),
}


def defaults(problem: str) -> dict[str, Any]:
    """Return what holds for a problem where nothing else is given, {setting: value}."""
    kind = [problem.startswith(beginning) for beginning in KINDS].index(True)
    return {name: values[kind] for name, values in DEFAULTS.items()}


def defaults_in_words() -> dict[str, str]:
    """Return {setting: its defaults on the kinds of problems} for the help page."""

    def shown(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) else str(value)

    def said(atari: str, minatar: str, other: str) -> str:
        if minatar == other:
            return f"{atari} on Atari, {other} otherwise"
        if atari == minatar:
            return f"{atari} on Atari and MinAtar, {other} otherwise"
        return f"{atari} on Atari, {minatar} on MinAtar, {other} otherwise"

    return {name: said(*map(shown, values)) for name, values in DEFAULTS.items()}
