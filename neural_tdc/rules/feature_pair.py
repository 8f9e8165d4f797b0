"""The features of a batch at both ends, and the vector-Jacobian product of the pair."""

from typing import Any

import torch
from torch import Tensor

from neural_tdc.rules.bodies import Cotangents
from neural_tdc.types import Body, FeatureMap, Transition
from neural_tdc.vector_jacobian import vjp


def pair_of_features(
    features: FeatureMap, body: Body, batch: Transition, reaches_next: bool
) -> tuple[Tensor, Tensor, Any]:
    """Return φ, φ' and the product with what the body's row differentiates: both, or φ alone."""
    if not body:
        observation, next_observation = batch.observation, batch.next_observation
        return features(body, observation), features(body, next_observation), None
    if not reaches_next:
        next_feature = features(body, batch.next_observation)
        feature, pull_back = vjp(lambda b: features(b, batch.observation), body)
        return feature, next_feature, pull_back
    both = torch.cat([batch.observation, batch.next_observation])
    joint, pull_back = vjp(lambda b: features(b, both), body)
    feature, next_feature = joint.split(len(batch.reward))
    return feature, next_feature, pull_back


def pulled_back(body: Body, cotangents: Cotangents, pull_back: Any) -> Body:
    """Return the body's direction, the mean over the batch of the products with (c, c').

    pull_back: the vector-Jacobian product of the pair (φ, φ'), each [batch, d]
    """
    c, c_next = cotangents
    if c is None or not body:
        return {name: torch.zeros_like(tensor) for name, tensor in body.items()}
    batch = len(c)
    both = c / batch if c_next is None else torch.cat([c, c_next]) / batch
    direction: Body = pull_back(both)[0]
    return direction
