"""The random policy, with whose scores the arms of a comparison are compared."""

from typing import Any

import numpy as np

from agents.dqn.evaluation import GreedyActor, evaluate_episodes
from experiments.compare_dqn.settings import Comparison
from experiments.runs.folder.files import read_json, write_json
from experiments.runs.folder.folder_contents import folder_name
from experiments.train_dqn.build import games, network_of

RANDOM_FILE = "random.json"
# Games that are played at a time.
AT_A_TIME = 10


def random_score(comparison: Comparison, game: str) -> dict[str, Any]:
    """Return the random policy's scores of whole games, played once and then read again."""
    settings = comparison.settings
    path = settings.out / folder_name(game) / RANDOM_FILE
    if path.exists():
        return dict(read_json(path))
    run = comparison.run(game, settings.arm[0], 0)
    count = min(settings.random_games, AT_A_TIME)
    environments = games(run, count, evaluation=True)
    try:
        actor = GreedyActor(network_of(run, environments))
        max_episode_steps = run.evaluation_longest
        scores: list[float] = []
        while len(scores) < settings.random_games:
            scores += evaluate_episodes(
                actor, environments, 1.0, 77_000 + len(scores), max_episode_steps
            )[0]
    finally:
        environments.close()
    result = {"mean": float(np.mean(scores)), "games": len(scores), "scores": scores}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result)
    return result
