"""Nonlinear TDC and GTD2 (Maei et al. 2009), which project on the tangent space of the network.

With u all parameters, g = ∇_uV(s), g' = ∇_uV(s') and q = (ρδ − gᵀw)∇²V(s)w:
TDC  u ← u + α[ρδg − γ_tρg'(gᵀw) − q],   GTD2  u ← u + α[ρ(g − γ_tg')(gᵀw) − q],
w ← w + β(ρδ − gᵀw)g. The Hessian enters by one Hessian-vector product.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from neural_tdc.rules.rule import Rule
from neural_tdc.types import FeatureMap, Parameters, Transition
from neural_tdc.vector_jacobian import vjp


@dataclass(frozen=True)
class NonlinearRule(Rule):
    """Maei's rules; w has the shape of body and head, and is the auxiliary tree.

    correction: whether it is TDC, else GTD2
    """

    auxiliaries = ("body", "head")

    name: str
    correction: bool

    def init(
        self, parameters: Parameters, observation: Tensor, generator: torch.Generator
    ) -> tuple[Parameters, dict[str, Any]]:
        """Set w to 0; see `Rule.init`."""
        network = {"body": parameters.body, "head": parameters.head}
        return parameters._replace(auxiliary=tree_map(torch.zeros_like, network)), {}

    def with_given_features(self) -> "NonlinearRule":
        """Return the rule as it is: without a body the network is its head."""
        return self

    def directions(
        self, features: FeatureMap, parameters: Parameters, batch: Transition, state: Any = None
    ) -> Parameters:
        """Return the directions of u and w; see `Rule.directions`."""

        def value(u: Any, observation: Tensor) -> Tensor:
            body, head = u
            return features(body, observation) @ head

        u = (parameters.body, parameters.head)
        w = (parameters.auxiliary["body"], parameters.auxiliary["head"])

        def at_both_ends(u: Any) -> tuple[Tensor, Tensor, Tensor]:
            here, slope = torch.func.jvp(lambda v: value(v, batch.observation), (u,), (w,))  # type: ignore[misc]
            return here, value(u, batch.next_observation), slope

        (here, there, slope), pull_back = vjp(at_both_ends, u)
        ratio, discount, count = batch.ratio, batch.discount, len(batch.reward)
        error = batch.reward + discount * there - here
        surprise = ratio * error - slope
        onto_here = ratio * (error if self.correction else slope)
        onto_there = -discount * ratio * slope
        # The third product is Σ surprise·∇(gᵀw): the Hessian-vector product q.
        direction = pull_back((-onto_here / count, -onto_there / count, surprise / count))[0]
        nothing = torch.zeros_like(here)
        w_body, w_head = pull_back((-surprise / count, nothing, nothing))[0]
        return Parameters(direction[0], direction[1], {"body": w_body, "head": w_head})
