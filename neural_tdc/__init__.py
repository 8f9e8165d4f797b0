"""Policy evaluation in which the last layer learns faster than the body."""

from neural_tdc import split_rates
from neural_tdc.evaluation import Evaluation, evaluate
from neural_tdc.learning.algorithm import Algorithm, State, population, step
from neural_tdc.metrics.markov_chain import MarkovChain
from neural_tdc.rules.composition import compose
from neural_tdc.rules.registry import RULES
from neural_tdc.rules.rule import Rule
from neural_tdc.types import Parameters, StepSizes, Transition
from neural_tdc.value_file import load_value
from neural_tdc.value_function import ValueFunction
from neural_tdc.version import VERSION as __version__

__all__ = [
    "RULES",
    "Algorithm",
    "Evaluation",
    "MarkovChain",
    "Parameters",
    "Rule",
    "State",
    "StepSizes",
    "Transition",
    "ValueFunction",
    "__version__",
    "compose",
    "evaluate",
    "load_value",
    "population",
    "split_rates",
    "step",
]
