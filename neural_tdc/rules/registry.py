"""The named learning rules, and any body of the tables beside any head that it may stand with.

`RULES["tdc"]` is Algorithm 1. `RULES["semi_gradient+lstd"]` is made on demand.
"""

import difflib
from dataclasses import replace
from typing import Any

from neural_tdc.rules.bodies import BODY_ROWS
from neural_tdc.rules.heads import HEAD_ROWS
from neural_tdc.rules.nonlinear import NonlinearRule
from neural_tdc.rules.rule import Rule
from neural_tdc.rules.ttn import TwoTimescaleNetwork


def configured(rule: Any, **settings: Any) -> Any:
    """Return a rule with other settings of `Rule`, for two-timescale networks of their fast head.

    Raises ValueError for a rule that does not have them, or where one is not defined for it.
    """
    if isinstance(rule, Rule):
        return replace(rule, **settings)
    if isinstance(rule, TwoTimescaleNetwork):
        return rule.with_head(**settings)
    if settings:
        raise ValueError(f"rule {rule.name!r} has no setting {' or '.join(settings)}")
    return rule


class Rules(dict[str, Any]):
    """The named rules; `RULES["body+head"]` makes a composition on demand.

    Raises ValueError for an unknown name, with the nearest ones, and for a pair that is not legal.
    """

    def __missing__(self, name: str) -> Rule:
        body, plus, head = name.partition("+")
        if not plus:
            raise ValueError(f"rule {name!r} is not one of {self._choices(name, list(self))}")
        if body not in BODY_ROWS:
            raise ValueError(f"body {body!r} is not one of {self._choices(body, list(BODY_ROWS))}")
        if head not in HEAD_ROWS:
            raise ValueError(f"head {head!r} is not one of {self._choices(head, list(HEAD_ROWS))}")
        partners = HEAD_ROWS[head].partners
        if partners is not None and body not in partners:
            raise ValueError(
                f"rule {name!r}: the head {head!r} reweighs every sample and goes with the bodies "
                f"{' and '.join(partners)} only"
            )
        return Rule(name, body, head)

    @staticmethod
    def _choices(name: str, names: list[str]) -> str:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        nearest = f" (did you mean {' or '.join(near)}?)" if near else ""
        return ", ".join(names) + nearest


RULES = Rules(
    {
        "tdc": Rule("tdc", "mspbe", "tdc"),
        "td": Rule("td", "semi_gradient", "td"),
        "gtd2": Rule("gtd2", "mspbe", "gtd2"),
        "tdrc": Rule("tdrc", "corrected", "tdrc"),
        "htd": Rule("htd", "semi_gradient", "htd"),
        "vtrace": Rule("vtrace", "semi_gradient", "vtrace"),
        "etd": Rule("etd", "semi_gradient", "etd"),
        "residual": Rule("residual", "residual", "residual"),
        "generalized": Rule("generalized", "generalized", "generalized"),
        "ttn": TwoTimescaleNetwork("ttn", Rule("frozen+tdc", "frozen", "tdc")),
        "nonlinear-tdc": NonlinearRule("nonlinear-tdc", correction=True),
        "nonlinear-gtd2": NonlinearRule("nonlinear-gtd2", correction=False),
    }
)
