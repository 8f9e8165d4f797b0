"""From a module to `features(body, observation)`, a pure function of the body's parameters.

It is the only form in which the learning rules see a body.
"""

import copy
import threading

from torch import Tensor, nn
from torch.func import functional_call

from neural_tdc.types import Body, FeatureMap


def feature_map(module: nn.Module) -> FeatureMap:
    """Return `features(body, observation) -> [batch, d]`, a pure function of the body.

    A rule may keep parameters of its own in `body` next to the module's: they are ignored.
    """
    module = module.eval()
    # A call puts the body into the module for a while, which two threads must not do at once: a
    # thread that shares an evaluation has a copy, made while the thread it works for waits.
    own = threading.local()
    own.module = module
    names = [name for name, _ in module.named_parameters()]
    buffers = dict(module.named_buffers())

    def features(body: Body, observation: Tensor) -> Tensor:
        reference = body[names[0]]
        state = {name: body[name] for name in names}
        for name, buffer in buffers.items():
            state[name] = buffer.to(
                device=reference.device,
                dtype=reference.dtype if buffer.is_floating_point() else buffer.dtype,
            )
        if not hasattr(own, "module"):
            own.module = copy.deepcopy(module)
        return functional_call(own.module, state, (observation,))

    return features


def given_features(body: Body, observation: Tensor) -> Tensor:
    """Return the observation [batch, d] itself: the features of a problem that gives them."""
    return observation
