"""From a command line to the settings of deep Q-learning; what has no effect is refused."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agents.dqn.objectives import GRADIENT_RULES
from agents.dqn.q_network import network_options
from envs.games.atari import Protocol
from envs.games.registry import protocol_options
from experiments.runs.command_line.checks import UsageError
from experiments.runs.command_line.program import flags_given
from experiments.runs.command_line.settings import Idle, check_effects, flag_of
from experiments.train_dqn.defaults import defaults_in_words
from experiments.train_dqn.settings import DQNSettings, dqn_settings


def idle_agent_settings(settings: DQNSettings) -> list[Idle]:
    """Return the settings that change nothing on this problem or with these parts."""
    problem, network = settings.problem, settings.network
    games = set(Protocol._fields) - set(protocol_options(problem))
    layers = {"features", "hidden"} - set(network_options(network))
    idle = [
        Idle(sorted(games), f"on {problem}"),
        Idle(sorted(layers), f"with --network {network}, only with mlp"),
    ]
    if settings.optimizer == "sgd":
        idle.append(Idle(("damping",), "with --optimizer sgd"))
    if not settings.lambda_:
        idle.append(Idle(("sequence_length",), "without --lambda"))
    rule = settings.rule
    if rule in GRADIENT_RULES:
        idle.append(Idle(("loss",), f"with --rule {rule}, whose error is squared"))
    else:
        idle.append(Idle(("auxiliary_step",), f"with --rule {rule}, which has no auxiliary head"))
    if rule != "qrc":
        idle.append(Idle(("kappa",), f"with --rule {rule}, only with qrc"))
    return idle


def check_target_period(settings: DQNSettings, given: Mapping[str, Any]) -> None:
    """Raise UsageError where --target-period was given and nothing is copied."""
    if settings.objective.target == "none" and "target_period" in given:
        raise UsageError(
            f"--target-period {given['target_period']} has no effect with --rule {settings.rule}, "
            "which has no target"
        )


def check_rates(arms: Collection[str], given: Mapping[str, Any]) -> None:
    """Raise UsageError where a learning rate was given that none of the arms has."""
    for name, without in (("body_step", "head"), ("head_step", "body")):
        if name in given and set(arms) == {without}:
            raise UsageError(
                f"{flag_of(name)} {given[name]:g} has no effect with --arm {without}: body and "
                f"head both learn at --{without}-step"
            )


def read_dqn_settings(argv: Sequence[str]) -> DQNSettings:
    """Make the settings of a command line."""
    given = flags_given([DQNSettings], argv, defaults_in_words())
    settings = dqn_settings(given)
    check_target_period(settings, given)
    check_rates([settings.arm], given)
    check_effects(settings, idle_agent_settings(settings))
    return settings
