"""The named learning rules, and any body of the tables under any head that it may go with.

`RULES["tdc"]` is Algorithm 1. `RULES["semi_gradient+lstd"]` is made on demand. A new part is one
line of BODY_ROWS or HEAD_ROWS, a new rule one of RULES.
"""

import difflib
from collections.abc import Sequence

from neural_tdc.rules.bodies import (
    BodyRow,
    CorrectedBody,
    FrozenBody,
    GeneralizedBody,
    MspbeBody,
    ResidualBody,
    SemiGradientBody,
)
from neural_tdc.rules.composition import ComposedRule, compose
from neural_tdc.rules.heads import (
    EmphaticHead,
    GeneralizedHead,
    Gtd2Head,
    HeadRow,
    HtdHead,
    ResidualHead,
    TdcHead,
    TdHead,
    TdrcHead,
    VTraceHead,
)
from neural_tdc.rules.lstd import LstdHead
from neural_tdc.rules.nonlinear import NonlinearRule
from neural_tdc.rules.rule import Rule
from neural_tdc.rules.target_network import TargetNetwork
from neural_tdc.rules.ttn import TwoTimescaleNetwork

_BODIES = (
    MspbeBody(),
    SemiGradientBody(),
    ResidualBody(),
    CorrectedBody(),
    GeneralizedBody(),
    FrozenBody(),
)
_HEADS = (
    TdHead(),
    VTraceHead(),
    ResidualHead(),
    Gtd2Head(),
    TdcHead(),
    TdrcHead(),
    HtdHead(),
    EmphaticHead(),
    GeneralizedHead(),
    LstdHead(),
)
BODY_ROWS: dict[str, BodyRow] = {row.name: row for row in _BODIES}
HEAD_ROWS: dict[str, HeadRow] = {row.name: row for row in _HEADS}


class Rules(dict[str, Rule]):
    """The named rules; `RULES["body+head"]` makes a composition on demand.

    Raises ValueError for an unknown name, with the nearest ones, and for a pair that is not legal.
    """

    def __missing__(self, name: str) -> ComposedRule:
        body, plus, head = name.partition("+")
        if not plus:
            raise ValueError(f"rule {name!r} is not one of {listed_names(name, list(self))}")
        if body not in BODY_ROWS:
            raise ValueError(f"body {body!r} is not one of {listed_names(body, list(BODY_ROWS))}")
        if head not in HEAD_ROWS:
            raise ValueError(f"head {head!r} is not one of {listed_names(head, list(HEAD_ROWS))}")
        return compose(BODY_ROWS[body], HEAD_ROWS[head])


def listed_names(name: str, names: Sequence[str]) -> str:
    """Return names as a list in words, with those that are nearest to an unknown one."""
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    nearest = f" (did you mean {' or '.join(near)}?)" if near else ""
    return ", ".join(names) + nearest


_RULES: tuple[Rule, ...] = (
    compose(MspbeBody(), TdcHead(), "tdc"),
    compose(SemiGradientBody(), TdHead(), "td"),
    compose(MspbeBody(), Gtd2Head(), "gtd2"),
    compose(CorrectedBody(), TdrcHead(), "tdrc"),
    compose(SemiGradientBody(), HtdHead(), "htd"),
    compose(SemiGradientBody(), VTraceHead(), "vtrace"),
    compose(SemiGradientBody(), EmphaticHead(), "etd"),
    compose(ResidualBody(), ResidualHead(), "residual"),
    compose(GeneralizedBody(), GeneralizedHead(), "generalized"),
    TwoTimescaleNetwork("ttn", FrozenBody(), TdcHead()),
    NonlinearRule("nonlinear-tdc", correction=True),
    NonlinearRule("nonlinear-gtd2", correction=False),
    TargetNetwork("fqe"),
)
RULES = Rules({rule.name: rule for rule in _RULES})
