"""What a method learns from ever longer beginnings of its data, measured as rules are.

A rule is measured while it learns. A method has no such moments: it learns anew from the first
part of every stream, then from a longer one, up to all of it. So its curve is over transitions too.
"""

from collections.abc import Callable, Iterator, Sequence

import torch

from neural_tdc.baselines.linear_value import learned_population
from neural_tdc.baselines.method import Method, OnMethodProgress, learned_values, no_news
from neural_tdc.learning.learner import evaluated, no_phase
from neural_tdc.types import Evaluator, FeatureMap, Measurement, Transition, mapped


def prefix_measurements(
    method: Method,
    streams: Sequence[Transition],
    evaluator: Callable[[FeatureMap], Evaluator],
    *,
    steps: int,
    prefixes: int,
    seed: int,
    start: int = 0,
    on_progress: OnMethodProgress = no_news,
    on_phase: Callable[[str], object] = no_phase,
) -> Iterator[Measurement]:
    """Learn from every prefix of the streams and yield a measurement of it.

    streams:   [time, …], one a run
    evaluator: from a feature map to the evaluator of a population
    steps:     what the whole streams count as; a prefix counts in proportion
    prefixes:  how many there are, evenly spaced
    start:     steps whose prefixes are already measured, when a run is resumed
    on_phase:  is called with what begins: `learn` or `measure`

    The state of a measurement is a `LearnedPopulation`. A run whose head is not finite has
    diverged, for this prefix and all later ones.
    """
    shape = streams[0].observation.shape[1:]
    lost = torch.zeros(len(streams), dtype=torch.bool)
    for step in prefix_steps(steps, prefixes):
        if step <= start:
            continue

        def beginning(stream: Transition, step: int = step) -> Transition:
            rows = max(1, len(stream.reward) * step // steps)
            return mapped(stream, lambda leaf: leaf[:rows])

        on_phase("learn")
        values = learned_values(method, [*map(beginning, streams)], seed, on_progress)
        found = learned_population(values, shape)
        lost = lost | ~found.parameters.head.isfinite().all(1).cpu()
        on_phase("measure")
        with torch.no_grad():
            gone = lost.to(found.parameters.head.device)
            measured = evaluated(evaluator(found.features), found.parameters, gone)
        yield Measurement(step, measured, lost, found, found.parameters)


def prefix_steps(steps: int, prefixes: int) -> list[int]:
    """Return the steps at the ends of evenly spaced prefixes, the last one all of them."""
    return sorted({max(1, steps * part // prefixes) for part in range(1, prefixes + 1)})
