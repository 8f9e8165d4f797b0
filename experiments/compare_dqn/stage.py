"""A population of runs in a folder, or a part of one: learned, evaluated, saved and resumed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agents.dqn.members import DQNMember, population_order
from agents.dqn.population import DQNPopulation
from agents.dqn.population_evaluation import evaluate_population
from agents.dqn.stacked_learner import MemberRates
from agents.dqn.stacked_replay import StackedReplay
from envs.games.discrete_control import GymnasiumEnvironments
from experiments.compare_dqn.grid import Candidate
from experiments.compare_dqn.settings import Comparison
from experiments.runs.command_line.checks import UsageError, named
from experiments.runs.command_line.computing import resolve_device
from experiments.runs.folder.checkpoint import load_checkpoint, save_checkpoint
from experiments.runs.folder.files import read_json, write_json
from experiments.runs.folder.folder_contents import CHECKPOINT, SCORES
from experiments.runs.results.phases import PhaseClock
from experiments.runs.results.progress import Progress
from experiments.train_dqn.build import games, network_of, training_schedule
from experiments.train_dqn.measurement import evaluation_seed, score_protocol
from experiments.train_dqn.settings import DQNSettings


class StageScores(NamedTuple):
    """What a population of runs came to.

    runs:      candidate and seed of each run
    steps:     [time] agent steps at the evaluations
    scores:    [time, run] mean raw score of an evaluation's games
    diverged:  [run] whether a loss was not finite
    """

    runs: list[tuple[Candidate, int]]
    steps: np.ndarray
    scores: np.ndarray
    diverged: np.ndarray
    protocol: dict[str, Any]
    run_steps_per_second: float | None

    def of(self, candidate: Candidate) -> tuple[np.ndarray, np.ndarray]:
        """Return the scores [time, seed] of a candidate, and which seeds diverged."""
        own = [i for i, (each, _) in enumerate(self.runs) if each == candidate]
        return self.scores[:, own], self.diverged[own]


def stage_population(
    comparison: Comparison, game: str, runs: Sequence[tuple[Candidate, int]]
) -> tuple[DQNPopulation, list[DQNSettings]]:
    """Make the population of some runs; UsageError in one line for what cannot be.

    Returns it with the settings of its members in the population's order.
    """
    settings = [
        comparison.member(game, {**candidate._asdict(), "seed": seed}) for candidate, seed in runs
    ]
    members = []
    for one in settings:
        body, head = one.rates
        rates = MemberRates(body, head, one.auxiliary_step or head)
        members.append(DQNMember(one.seed, one.objective, rates))
    order = population_order(members)
    settings, members = [settings[i] for i in order], [members[i] for i in order]
    first = settings[0]
    environments = games(first, len(members))
    if not isinstance(environments, GymnasiumEnvironments):
        environments.close()
        raise UsageError(f"--grid does not work on {game}, only on MinAtar and control problems")
    by_seed = {one.seed: one for one in settings}
    with named("--replay-capacity"):
        replay = StackedReplay(
            len(members),
            first.replay_capacity,
            environments.frame_shape,
            dtype=environments.dtype,
            steps=first.n_step,
            discount=first.gamma,
            reward_limit=first.reward_limit or None,
            device=resolve_device(first.device, deterministic=first.deterministic),
            sequence_length=first.segment_length,
        )
    with named(f"--grid with --network {first.network}"):
        population = DQNPopulation(
            members,
            lambda seed: network_of(by_seed[seed], environments),
            environments,
            replay,
            training_schedule(first),
            first.optimizer,
            eps=first.damping,
            max_grad_norm=first.gradient_norm or None,
        )
    return population, settings


def learn_stage(
    comparison: Comparison,
    game: str,
    folder: Path,
    runs: Sequence[tuple[Candidate, int]],
    stopping: Callable[[], bool],
    clock: PhaseClock,
) -> None:
    """Learn and evaluate some runs together, from where they were stopped; write their scores.

    Raises KeyboardInterrupt after a stop, with everything saved that can be.
    """
    clock.switch("write")
    population, settings = stage_population(comparison, game, runs)
    try:
        stage = _Stage(folder, population, settings, clock)
        stage.learn(f"{folder.name} on {game}", stopping)
    finally:
        population.environments.close()


class _Stage:
    """A population that learns in a folder."""

    def __init__(
        self,
        folder: Path,
        population: DQNPopulation,
        settings: list[DQNSettings],
        clock: PhaseClock,
    ) -> None:
        self.folder, self.population = folder, population
        self.settings, self.clock = settings, clock
        self.evaluations: list[dict[str, Any]] = []
        self.diverged = np.zeros(len(settings), dtype=bool)
        self.seconds = 0.0
        path = folder / CHECKPOINT
        if not path.exists():
            population.begin()
            return
        saved = load_checkpoint(path)
        population.load(saved["population"])
        self.evaluations, self.seconds = saved["evaluations"], saved["seconds"]
        self.diverged[saved["diverged"]] = True

    def learn(self, label: str, stopping: Callable[[], bool]) -> None:
        """Learn to the end."""
        first, population = self.settings[0], self.population
        count = first.evaluation_episodes
        evaluation = games(first, count * len(self.settings), evaluation=True)
        assert isinstance(evaluation, GymnasiumEnvironments)
        saved_at = self.clock.seconds()["learn"]
        try:
            with Progress(label, first.steps, len(self.settings), population.step) as bar:
                while population.step < first.steps:
                    self._advance(evaluation)
                    bar.update(population.step, self._latest(), "mean score")
                    now, last = self.clock.seconds()["learn"], population.step >= first.steps
                    if stopping() or (now - saved_at > first.checkpoint_every and not last):
                        self._save()
                        saved_at = now
                    if stopping() and not last:
                        raise KeyboardInterrupt
        finally:
            evaluation.close()
        protocol = score_protocol(first, evaluation)
        self._write(protocol)

    def _advance(self, evaluation: GymnasiumEnvironments) -> None:
        first, population = self.settings[0], self.population
        every, before = first.evaluate_every, self.clock.seconds()["learn"]
        self.clock.switch("learn")
        found = population.advance(min((population.step // every + 1) * every, first.steps))
        self.clock.switch("measure")
        self.seconds += self.clock.seconds()["learn"] - before
        if found.loss.numel():
            self.diverged |= ~found.loss.isfinite().all(0).cpu().numpy()
        scores = evaluate_population(
            population.networks,
            evaluation,
            first.evaluation_epsilon,
            [evaluation_seed(one, len(self.evaluations)) for one in self.settings],
            first.evaluation_longest,
        )
        self.evaluations.append({"step": population.step, "scores": scores.tolist()})

    def _latest(self) -> float:
        return float(np.mean(self.evaluations[-1]["scores"]))

    def _save(self) -> None:
        with self.clock.phase("write"):
            if (state := self.population.state()) is None:
                return
            kept = {"population": state, "evaluations": self.evaluations, "seconds": self.seconds}
            diverged = np.flatnonzero(self.diverged).tolist()
            save_checkpoint(self.folder / CHECKPOINT, {**kept, "diverged": diverged})

    def _write(self, protocol: dict[str, Any]) -> None:
        """Write the scores, which say that the stage is done, and drop the checkpoint."""
        steps = self.population.step * len(self.settings)
        runs = [
            {name: getattr(one, name) for name in (*Candidate._fields, "seed")}
            | {"diverged": bool(lost)}
            for one, lost in zip(self.settings, self.diverged)
        ]
        write_json(
            self.folder / SCORES,
            {
                "protocol": protocol,
                "run_steps_per_second": steps / self.seconds if self.seconds else None,
                "runs": runs,
                "evaluations": self.evaluations,
            },
        )
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


def read_stage(folder: Path, runs: Sequence[tuple[Candidate, int]]) -> StageScores:
    """Read the scores of a finished stage; ValueError where they are of other runs."""
    content = read_json(folder / SCORES)
    found = [
        (Candidate(*(run[name] for name in Candidate._fields)), run["seed"])
        for run in content["runs"]
    ]
    if set(found) != set(runs):
        raise ValueError(f"{folder / SCORES} holds other runs than this comparison's")
    evaluations = content["evaluations"]
    return StageScores(
        found,
        np.array([each["step"] for each in evaluations]),
        np.array([np.mean(each["scores"], axis=1) for each in evaluations]),
        np.array([run["diverged"] for run in content["runs"]]),
        content["protocol"],
        content["run_steps_per_second"],
    )
