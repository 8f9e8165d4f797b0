"""What a run has of whatever it learns by: its folder, its recorder, its task and its summary."""

from pathlib import Path
from typing import Any

import torch

from agents.resampled_task import Evidence
from agents.task import Task
from experiments.evaluate_policy.learning.shared import Shared
from experiments.evaluate_policy.learning.start_value import run_evidence
from experiments.runs.folder.folder_contents import CHECKPOINT
from experiments.runs.recording.recorder import Recorder
from experiments.runs.results.history import History


class FolderRun:
    """One name's run in its folder.

    kept: what its checkpoint holds, besides what a recorder puts there
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        shared: Shared,
        kept: set[str],
        device: torch.device | str = "cpu",
    ) -> None:
        self.name, self.folder, self.shared = name, folder, shared
        self.recorder = Recorder(
            folder / CHECKPOINT, {name: folder}, kept, device=device, clock=shared.clock
        )

    @property
    def task(self) -> Task:
        """Return the task that it learns."""
        return self.shared.task

    @property
    def history(self) -> History:
        """Return the measurements so far."""
        return self.recorder.histories[self.name]

    @property
    def evidence(self) -> Evidence:
        """Return how much data the first run learns from."""
        return run_evidence(self.task)

    def write_summary(self, steps: int, **more: Any) -> dict[str, Any]:
        """Write and return the summary of the finished run; more: further entries."""
        seed = self.shared.settings["seed"]
        return self.recorder.summaries(self.task.name, steps, seed, **more)[self.name]
