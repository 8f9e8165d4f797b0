"""Algorithm 1 as a user would write it: a module, autograd, `torch.optim`, one run at a time."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def plain_loop(
    observation: Tensor, reward: Tensor, batch: int, optimizer: str
) -> Callable[[], None]:
    """Return a function that takes one update of one run of Algorithm 1.

    observation: [time + 1, 8] a stream in its order; reward: [time]
    """
    torch.manual_seed(0)
    device = observation.device
    body = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh()).to(device)
    head = nn.Parameter(torch.zeros(16, device=device))
    auxiliary = nn.Parameter(torch.zeros(16, device=device))
    groups = [
        {"params": list(body.parameters()), "lr": 1e-3},
        {"params": [head], "lr": 1e-2},
        {"params": [auxiliary], "lr": 1e-2},
    ]
    kind = {"sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}[optimizer]
    optimiser = kind(groups, lr=1e-3)
    time = 0

    def update() -> None:
        nonlocal time
        begin = (time * batch) % (len(reward) - batch + 1)
        time += 1
        phi = body(observation[begin : begin + batch])
        phi_next = body(observation[begin + 1 : begin + batch + 1])
        with torch.no_grad():
            delta = reward[begin : begin + batch] + 0.99 * (phi_next @ head) - phi @ head
            inner = phi @ auxiliary
            c = (delta - inner)[:, None] * auxiliary - inner[:, None] * head
            c_next = 0.99 * inner[:, None] * head
            head_direction = (delta[:, None] * phi - 0.99 * inner[:, None] * phi_next).mean(0)
            auxiliary_direction = ((delta - inner)[:, None] * phi).mean(0)
        optimiser.zero_grad()
        (((phi * c) + (phi_next * c_next)).sum() / batch).backward()
        head.grad = -head_direction
        auxiliary.grad = -auxiliary_direction
        optimiser.step()

    return update
