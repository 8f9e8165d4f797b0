"""A study on the disk: the results of its shards, and the time that has gone into them."""

import io
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.runs.checkpoint import load_checkpoint, save_checkpoint
from experiments.runs.files import write_bytes
from experiments.runs.report import Progress
from experiments.runs.run_folder import CHECKPOINT, SHARDS
from experiments.sweep.build import Shard
from experiments.sweep.engines import Engine
from experiments.sweep.shard import Results


class Study:
    """The folder of a study; what stands in it once is never run again.

    seconds: the time that has gone into all its shards, over every resumption
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        (out / SHARDS).mkdir(exist_ok=True)
        self.seconds = 0.0
        if (out / CHECKPOINT).exists():
            self.seconds = float(load_checkpoint(out / CHECKPOINT)["seconds"])

    def _path(self, shard: Shard) -> Path:
        return self.out / SHARDS / f"{shard.name}.npz"

    def done(self, shard: Shard) -> bool:
        """Return whether a shard's results are there."""
        return self._path(shard).exists()

    def read(self, shard: Shard) -> Results:
        """Return a shard's results; ValueError in one line where the file is damaged."""
        try:
            with np.load(self._path(shard), allow_pickle=False) as file:
                return dict(file)
        except Exception as error:  # zipfile and numpy have many ways to say it.
            said = " ".join(str(error).split())
            raise ValueError(
                f"{self._path(shard)} is damaged: {said}; remove it, and --resume runs it again"
            ) from None

    def _write(self, shard: Shard, results: Results) -> None:
        content = io.BytesIO()
        np.savez(content, **results)  # type: ignore[arg-type]
        write_bytes(self._path(shard), content.getvalue())

    def run(self, wanted: Sequence[Shard], engine: Engine, label: str) -> dict[str, Results]:
        """Run the shards that are missing and return the results of all."""
        by_name = {shard.name: shard for shard in wanted}
        missing = [shard for shard in by_name.values() if not self.done(shard)]
        # The longest first, so that none is left alone at the end.
        missing.sort(key=lambda shard: (-shard.run_steps, shard.name))
        total = sum(shard.run_steps for shard in by_name.values())
        done = total - sum(shard.run_steps for shard in missing)
        begun, before = time.perf_counter(), self.seconds
        with Progress(label, total, 1, done) as progress:

            def on_progress(more: int) -> None:
                nonlocal done
                done += more
                progress.update(min(done, total))

            for shard, results in engine(missing, on_progress):
                self._write(shard, results)
                self.seconds = before + time.perf_counter() - begun
                save_checkpoint(self.out / CHECKPOINT, {"seconds": self.seconds})
        return {name: self.read(shard) for name, shard in by_name.items()}
