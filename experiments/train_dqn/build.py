"""From the settings of deep Q-learning to what they stand for: games, network, replay, course."""

from typing import Any

import torch

from agents.dqn.learner import Learner, QObjective, make_optimizer
from agents.dqn.q_network import QNetwork, make_network
from agents.dqn.replay import Replay, replay_bytes
from agents.dqn.training import Training, TrainingSchedule
from envs.games.atari import NATURE, Protocol
from envs.games.registry import make_environments
from envs.games.stepping import Environments, observation_shape
from experiments.runs.checks import UsageError
from experiments.train_dqn.settings import rates
from neural_tdc.device_memory import GIGABYTE


def games(values: dict[str, Any], count: int, evaluation: bool = False) -> Environments:
    """Make the environments of a run, for training or for evaluation; UsageError in one line.

    In an evaluation a lost life ends nothing: what is scored is the whole game.
    """
    chosen = {name: values[name] for name in Protocol._fields if name in values}
    protocol = Protocol(**{**chosen, "sticky_actions": NATURE.sticky_actions})
    if evaluation:
        protocol = protocol._replace(life_loss=False)
    try:
        return make_environments(values["problem"], count, protocol, values["sticky_actions"])
    except ValueError as error:
        raise UsageError(f"--problem {values['problem']}: {error}") from None


def network_of(values: dict[str, Any], environments: Environments) -> QNetwork:
    """Make the network of a run, with its initial values, on the CPU; UsageError in one line."""
    try:
        return make_network(
            values["network"],
            observation_shape(environments),
            environments.actions,
            seed=values["seed"],
            scale=environments.scale,
            features=values["features"],
            hidden=tuple(values["hidden"]),
        )
    except ValueError as error:
        raise UsageError(f"--network {values['network']}: {error}") from None


def training(
    values: dict[str, Any], environments: Environments, device: torch.device, compiled: bool
) -> Training:
    """Make everything that learns ready on a device; UsageError in one line for what cannot be."""
    network = network_of(values, environments).to(device)
    body_rate, head_rate = rates(values)
    optimizer = make_optimizer(
        values["optimizer"], network, body_rate, head_rate, values["damping"]
    )
    replay, schedule = _replay(values, environments, device), _training_schedule(values)
    learner = Learner(
        network,
        optimizer,
        QObjective(values["double"], values["loss"]),
        max_grad_norm=values["gradient_norm"] or None,
        precision=values["precision"],
        compiled=compiled,
        target_cache_rows=schedule.target_cache_rows(replay.rows),
    )
    return Training(learner, environments, replay, schedule, values["seed"])


def _replay(values: dict[str, Any], environments: Environments, device: torch.device) -> Replay:
    try:
        return Replay(
            values["replay_capacity"],
            environments.count,
            environments.frame_shape,
            dtype=environments.dtype,
            stack=environments.stack,
            steps=values["n_step"],
            discount=values["gamma"],
            reward_limit=values["reward_limit"] or None,
            device=device,
        )
    except ValueError as error:
        raise UsageError(f"--replay-capacity {values['replay_capacity']}: {error}") from None


def _training_schedule(values: dict[str, Any]) -> TrainingSchedule:
    named = {**values, "final_lr_factor": values["rate_last"]}
    return TrainingSchedule(**{name: named[name] for name in TrainingSchedule._fields})


def replay_size(values: dict[str, Any], environments: Environments) -> tuple[int, int]:
    """Return what the replay of a run takes, in bytes: on the device and on the host."""
    return replay_bytes(values["replay_capacity"], environments.frame_shape, environments.dtype)


def memory_line(values: dict[str, Any], environments: Environments, device: torch.device) -> str:
    """Return the line that says what the replay takes."""
    frames, rest = replay_size(values, environments)
    return (
        f"replay: {values['replay_capacity']:,} frames take {frames / GIGABYTE:.3g} GB on {device} "
        f"and {rest / GIGABYTE:.3g} GB for the rest"
    )


def protocol_line(protocol: dict[str, Any]) -> str:
    """Return a protocol as one line of text."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in protocol.items())
