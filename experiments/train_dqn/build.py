"""From the settings of deep Q-learning to games, network, replay and schedule."""

from typing import Any

import torch

from agents.dqn.learner import Learner, make_auxiliary
from agents.dqn.optimizers import make_optimizer
from agents.dqn.q_network import QNetwork, make_network
from agents.dqn.replay import Replay, replay_bytes
from agents.dqn.training import Training, TrainingSchedule
from envs.games.atari import NATURE, Protocol
from envs.games.registry import make_environments
from envs.games.stepping import Environments, observation_shape
from experiments.runs.command_line.checks import UsageError
from experiments.train_dqn.settings import DQNSettings
from neural_tdc.device_memory import GIGABYTE


def games(settings: DQNSettings, count: int, evaluation: bool = False) -> Environments:
    """Make the environments of a run, for training or for evaluation; UsageError in one line.

    In an evaluation a lost life ends nothing: what is scored is the whole game.
    """
    chosen = {name: getattr(settings, name) for name in Protocol._fields}
    protocol = Protocol(**{**chosen, "sticky_actions": NATURE.sticky_actions})
    if evaluation:
        protocol = protocol._replace(life_loss=False)
    try:
        return make_environments(settings.problem, count, protocol, settings.sticky_actions)
    except ValueError as error:
        raise UsageError(f"--problem {settings.problem}: {error}") from None


def network_of(settings: DQNSettings, environments: Environments) -> QNetwork:
    """Make the network of a run, with its initial values, on the CPU; UsageError in one line."""
    try:
        return make_network(
            settings.network,
            observation_shape(environments),
            environments.actions,
            seed=settings.seed,
            scale=environments.scale,
            features=settings.features,
            hidden=settings.hidden,
        )
    except ValueError as error:
        raise UsageError(f"--network {settings.network}: {error}") from None


def training(
    settings: DQNSettings, environments: Environments, device: torch.device, compiled: bool
) -> Training:
    """Make everything that learns ready on a device; UsageError in one line for what cannot be."""
    network = network_of(settings, environments).to(device)
    body_rate, head_rate = settings.rates
    objective = settings.objective
    auxiliary = make_auxiliary(network) if objective.correction else None
    optimizer = make_optimizer(
        settings.optimizer,
        network,
        body_rate,
        head_rate,
        settings.damping,
        auxiliary=auxiliary,
        auxiliary_rate=settings.auxiliary_step,
    )
    replay, schedule = _replay(settings, environments, device), training_schedule(settings)
    learner = Learner(
        network,
        optimizer,
        objective,
        auxiliary=auxiliary,
        max_grad_norm=settings.gradient_norm or None,
        precision=settings.precision,
        compiled=compiled,
        target_cache_rows=schedule.target_cache_rows(replay.rows, device),
    )
    return Training(learner, environments, replay, schedule, settings.seed)


def policy_description(settings: DQNSettings, environments: Environments) -> dict[str, Any]:
    """Return what it takes to make the network again, without any environment."""
    return {
        "name": settings.network,
        "observation_shape": list(observation_shape(environments)),
        "actions": environments.actions,
        "scale": environments.scale,
        "features": settings.features,
        "hidden": list(settings.hidden),
    }


def _replay(settings: DQNSettings, environments: Environments, device: torch.device) -> Replay:
    try:
        return Replay(
            settings.replay_capacity,
            environments.count,
            environments.frame_shape,
            dtype=environments.dtype,
            stack=environments.stack,
            steps=settings.n_step,
            discount=settings.gamma,
            reward_limit=settings.reward_limit or None,
            device=device,
            sequence_length=settings.segment_length,
        )
    except ValueError as error:
        raise UsageError(f"--replay-capacity {settings.replay_capacity}: {error}") from None


def training_schedule(settings: DQNSettings) -> TrainingSchedule:
    """Return how learning goes along with acting."""
    named = {**vars(settings), "final_lr_factor": settings.rate_last}
    return TrainingSchedule(**{name: named[name] for name in TrainingSchedule._fields})


def replay_size(settings: DQNSettings, environments: Environments) -> tuple[int, int]:
    """Return what the replay of a run takes, in bytes: on the device and on the host."""
    return replay_bytes(settings.replay_capacity, environments.frame_shape, environments.dtype)


def memory_line(settings: DQNSettings, environments: Environments, device: torch.device) -> str:
    """Return the line that says what the replay takes."""
    frames, rest = replay_size(settings, environments)
    return (
        f"replay: {settings.replay_capacity:,} frames take {frames / GIGABYTE:.3g} GB on {device} "
        f"and {rest / GIGABYTE:.3g} GB for the rest"
    )


def protocol_line(protocol: dict[str, Any]) -> str:
    """Return a protocol as one line of text."""
    words = {None: "none", True: "yes", False: "no"}
    # 0 and 1 are equal to False and True, and are numbers here.
    said = {
        name: words[value] if value is None or isinstance(value, bool) else value
        for name, value in protocol.items()
    }
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in said.items())
