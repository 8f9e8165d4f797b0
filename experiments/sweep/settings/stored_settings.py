"""What is written down of a study's settings, and compared when it is resumed."""

from collections.abc import Mapping
from typing import Any

from experiments.evaluate_policy.parts.data import content
from experiments.evaluate_policy.parts.policies import policy_contents
from experiments.runs.command_line.common_settings import stored
from experiments.sweep.settings.sweep_settings import SweepSettings


def stored_settings(
    settings: SweepSettings, by_problem: Mapping[str, SweepSettings]
) -> dict[str, Any]:
    """Return the settings as they are written down and compared on resume."""
    # A part is a part of the study with the same settings.
    jobs = ("shard", "merge")
    common = {name: value for name, value in stored(settings).items() if name not in jobs}
    special = {
        problem: {
            name: value for name, value in stored(own).items() if value != common.get(name, value)
        }
        for problem, own in by_problem.items()
    }
    override = {name: value for name, value in special.items() if value}
    # A study goes on with the same files of policies only.
    return {
        **common,
        **policy_contents(settings.policy, settings.behaviour),
        **({} if settings.data is None else {"data_sha256": content(settings.data)}),
        "override": override,
    }
