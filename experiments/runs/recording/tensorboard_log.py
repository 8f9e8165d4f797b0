"""The events that TensorBoard shows of one run folder.

    error/rmsve …                 means over the surviving runs, grouped as the metrics are
    interval/error/rmsve/low …    ends of their 95 % intervals, a group of its own to fold away
    runs/diverged                 how many runs have diverged
    whole_run/auc_rmsve …         means over a run, written once at the end
    Custom Scalars                the means with their intervals as bands, by their names in tables
    HParams                       settings and final values, written once at the end

Several rules are several folders, which TensorBoard lays over one another. It shows tags in their
alphabetical order: the curves of errors come first and the single points of means over a run last.
These points are there because the HParams page reads its metrics from scalars. The Custom Scalars
page selects no run at first where it lists more than 40: that is a constant in TensorBoard's page.
"""

import math
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.runs.recording.tag_descriptions import (
    WHOLE_RUN,
    metric_name,
    tag_description,
)
from experiments.runs.results.history import History
from experiments.runs.results.intervals import mean_interval
from experiments.runs.results.statistics import NOT_SUMMARISED, auc, is_error, summary_key
from neural_tdc.metrics.registry import METRICS

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

# A new interval at each measurement: fewer resamples than in a summary.
EVENT_RESAMPLES = 2_000
# Groups of metrics that say how good a run is.
ERROR_GROUPS = ("error", "test")


class TensorBoardLog:
    """An event file in a run folder.

    A resumed run opens a new file and gives `purge_step`, the first step to come: TensorBoard then
    forgets what an earlier file says from there on. Records are written by the calling thread, so
    that a full disk is an OSError here and not a traceback from a thread.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        # Nanoseconds: files of one second must sort in the order in which they were made.
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        now = time.time_ns()
        stamp = f"{now // 10**9:010d}.{now % 10**9:09d}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / f"events.out.tfevents.{stamp}").open("xb")
        self._records = RecordWriter(self._file)
        self._has_layout = False
        self._seen: set[str] = set()
        self._write(Event(file_version="brain.Event:2"))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._write(Event(step=purge_step, session_log=start))

    def _write(self, event: "Event") -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())

    def _write_summary(self, summary: "Summary", step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._write(Event(step=step, summary=summary))

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Write one number; one that is not finite is left out."""
        from torch.utils.tensorboard import summary as summaries

        if not math.isfinite(value):
            return
        summary = summaries.scalar(tag, value)
        if tag not in self._seen:
            # TensorBoard takes the description of a tag from its first event.
            metadata = summary.value[0].metadata
            metadata.summary_description = tag_description(tag)
            metadata.plugin_data.plugin_name = "scalars"
            self._seen.add(tag)
        self._write_summary(summary, step)

    def write(self, history: History, count_diverged: bool = True) -> None:
        """Write the last measurement of a history; a mean over no run is left out."""
        from torch.utils.tensorboard import summary as summaries

        # A single run has no bands to lay out.
        if not self._has_layout and history.runs > 1:
            self._write_summary(summaries.custom_scalars(_layout(history.names)), 0)
            self._has_layout = True
        step = int(history.steps[-1])
        last = np.array([history.last(name) for name in history.names])
        mean, low, high = mean_interval(
            last.reshape(len(history.names), history.runs),
            EVENT_RESAMPLES,
            logarithm=np.array([is_error(name) for name in history.names], dtype=bool),
        )
        for index, name in enumerate(history.names):
            self.scalar(name, float(mean[index]), step)
            if _has_interval(name):
                self.scalar(f"interval/{name}/low", float(low[index]), step)
                self.scalar(f"interval/{name}/high", float(high[index]), step)
        if count_diverged:
            self.scalar("runs/diverged", float(history.diverged.sum()), step)

    def write_hparams(
        self,
        settings: Mapping[str, Any],
        history: History,
        averages: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Write the settings with the final errors and their AUC, for the HParams page.

        averages: {error: [run]} means over a run, where the history does not hold all of it

        They go into this file, so that TensorBoard shows no run more than there are folders.
        """
        from torch.utils.tensorboard import summary as summaries

        step = int(history.steps[-1])
        tags: dict[str, float] = {}
        for name in history.names:
            if name.split("/")[0] in ERROR_GROUPS:
                tag = f"{WHOLE_RUN}/auc_{summary_key(name)}"
                values = auc(history, name) if averages is None else averages[name]
                self.scalar(tag, float(mean_interval(values).mean), step)
                tags |= {name: 0.0, tag: 0.0}
        # The page reads a metric's value from the scalars of that tag.
        plain = {name: _plain(value) for name, value in settings.items() if value is not None}
        for summary in summaries.hparams(plain, tags):
            self._write_summary(summary, step)

    def flush(self) -> None:
        """Return when all that was written has reached the disk."""
        self._records.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Write what is left and close the file."""
        self._file.close()


def _has_interval(name: str) -> bool:
    return name.split("/")[0] not in NOT_SUMMARISED


def _layout(names: tuple[str, ...]) -> dict[str, dict[str, list[Any]]]:
    """Return the charts of the Custom Scalars page: one band per metric, the main errors first."""
    order = {name: place for place, name in enumerate(METRICS)}
    groups: dict[str, dict[str, list[Any]]] = {}
    shown = sorted(filter(_has_interval, names), key=lambda name: order.get(name, len(order)))
    for name in shown:
        tags = [name, f"interval/{name}/low", f"interval/{name}/high"]
        group = name.partition("/")[0].replace("_", " ")
        groups.setdefault(group, {})[metric_name(name)] = ["Margin", tags]
    # TensorBoard 2.21 shows the last chart of a group first.
    return {group: dict(reversed(charts.items())) for group, charts in groups.items()}


def _plain(value: Any) -> float | int | str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)
