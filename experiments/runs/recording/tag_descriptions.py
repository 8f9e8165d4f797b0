"""What TensorBoard says about a tag: the metric in words, with its unit."""

from experiments.runs.results.statistics import summary_key
from neural_tdc.metrics.registry import METRICS

# The last of all groups of tags: what has one point only.
WHOLE_RUN = "whole_run"
# Of tags that are no metrics of policy evaluation.
_WORDS = {
    "runs/diverged": "number of runs that have diverged",
    "value/starts": "value of the policy ρ(π): mean of V over first states (units of value)",
    "speed/run_steps_per_second": "updates of all runs per second of learning",
    "speed/agent_steps_per_second": "agent steps per second",
    "train/loss": "mean loss on training samples, without the ridge",
    "test/loss": "mean loss on test samples, without the ridge",
    "train/accuracy": "fraction of training samples classified correctly",
    "test/accuracy": "fraction of test samples classified correctly",
    "test/rmse": "root mean square error on test samples (units of the target)",
    "response/residual": "largest entry of the gradient at a best response",
    "return/training": "mean sum of rewards of the games of training since the last measurement",
    "length/training": "mean number of agent steps of these games",
    "games/training": "number of games of training since the last measurement",
    "loss/td": "mean loss of the TD error since the last measurement",
    "value/mean_q": "mean of Q(s, a) in the batches since the last measurement",
    "exploration/epsilon": "probability of a random action in training",
    "replay/fill": "share of the replay that holds frames, from 0 to 1",
    "evaluation/score": "mean score of whole games",
    "evaluation/low": "low end of the 95 % interval over games of the score",
    "evaluation/high": "high end of the 95 % interval over games of the score",
    "evaluation/length": "mean number of agent steps of the games of the evaluation",
}
_GROUPS = {
    "step_size": "learning rate of the {} at the last update",
    "gradient": "Euclidean norm of the gradient of the {} at the last batch",
}
_BY_SUMMARY_KEY = {summary_key(key): key for key in METRICS}


def metric_name(key: str) -> str:
    """Return a metric's name with its unit, or of an unregistered one its key in words."""
    metric = METRICS.get(key)
    return key.replace("_", " ") if metric is None else f"{metric.symbol} ({metric.unit})"


def tag_description(tag: str) -> str:
    """Return what TensorBoard says about a tag; "" of an unknown one."""
    group, _, rest = tag.partition("/")
    if group == "interval":
        metric, _, end = rest.rpartition("/")
        return f"{end} end of the 95 % interval over runs of {metric_name(metric)}"
    if group == WHOLE_RUN:
        key = rest.removeprefix("auc_")
        return f"mean over a whole run of {metric_name(_BY_SUMMARY_KEY.get(key, key))}"
    if group in _GROUPS:
        return _GROUPS[group].format(rest.replace("_", " "))
    if tag in METRICS:
        return f"{metric_name(tag)}, mean over the runs that have not diverged"
    return _WORDS.get(tag, "")
