"""A small problem of unequal sizes, and the saddle form of its objective."""

import torch

from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.types import Parameters, Transition

BATCH, STATE, HIDDEN, FEATURE = 7, 3, 5, 4


def problem(hidden=(HIDDEN,), on_policy=False, seed=0, batch=BATCH):
    """Draw a network, an auxiliary vector and a batch in float64, all sizes different."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    torch.manual_seed(seed)
    module = mlp((STATE,), FEATURE, hidden).double()
    body = {name: p.detach() for name, p in module.named_parameters()}
    head, omega = draw(FEATURE), draw(FEATURE)
    # Every rule finds the same ω under the name of its own vector.
    parameters = Parameters(body, head, dict.fromkeys(("tdc", "tdrc", "htd"), omega))
    ended = torch.rand(batch, generator=g, dtype=torch.float64) < 0.2
    transitions = Transition(
        draw(batch, STATE),
        draw(batch),
        0.9 * (~ended).double(),
        draw(batch, STATE),
        torch.ones(batch, dtype=torch.float64)
        if on_policy
        else 2 * torch.rand(batch, generator=g, dtype=torch.float64),
    )
    return feature_map(module), parameters, transitions


def quantities(features, parameters, batch):
    """Return φ, φ' and δ, written out once more."""
    phi = features(parameters.body, batch.observation)
    phi_next = features(parameters.body, batch.next_observation)
    theta = parameters.head
    delta = batch.reward + batch.discount * (phi_next @ theta) - phi @ theta
    return phi, phi_next, delta


def relative_error(left, right):
    return float((left - right).norm() / right.norm())


def flat(body):
    return torch.cat([body[name].flatten() for name in sorted(body)])
