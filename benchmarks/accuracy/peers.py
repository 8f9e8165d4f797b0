"""The usual methods, written as a user would write them: plain NumPy and PyTorch, one file.

Nothing of the library is used here. Every method takes a log and a discount, and returns a function
from observations [n, o] and the policy's probabilities there [n, actions] to values [n]. All see
the same data and scale it in the same way.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.accuracy.collection import Log

Array = np.ndarray
Value = Callable[[Array, Array], Array]

HIDDEN, BATCH, RATE = 64, 32, 1e-3
UPDATES = 20_000


class _Scaled:
    """Standardised observations, rewards in units of their returns, and where a stream is cut."""

    def __init__(self, log: Log, discount: float) -> None:
        self.mean, deviation = log.observation.mean(0), log.observation.std(0)
        self.deviation = np.where(deviation > 0, deviation, 1.0)
        self.here, self.there = self.of(log.observation), self.of(log.next_observation)
        self.discount = discount * (1 - log.terminated.astype(float))
        self.ends = log.terminated | log.truncated
        self.ends[-1] = True
        returns = backwards(log.reward, self.discount, self.ends, np.zeros(len(log.reward)), 1.0)
        self.unit = returns.std() or 1.0
        self.reward, self.ratio = log.reward / self.unit, log.ratio

    def of(self, observation: Array) -> Array:
        return (observation - self.mean) / self.deviation


def backwards(reward: Array, discount: Array, ends: Array, after: Array, decay: float) -> Array:
    """Return the λ-returns [time]; `after`: values of the next observations, `decay`: λ."""
    returns = np.empty_like(reward)
    following = 0.0
    for time in range(len(reward) - 1, -1, -1):
        ahead = after[time] if ends[time] else (1 - decay) * after[time] + decay * following
        following = returns[time] = reward[time] + discount[time] * ahead
    return returns


def constant(log: Log, discount: float) -> Value:
    """Return the best constant that the returns of the log show."""
    data = _Scaled(log, discount)
    level = data.reward.mean() * data.unit / max(1 - data.discount.mean(), 1e-9)
    return lambda observation, policy: np.full(len(observation), level)


def lstd(log: Log, discount: float, decay: float, width: int = 256, ridge: float = 1e-4) -> Value:
    """LSTD(λ) on random tanh features and a constant (Boyan 2002)."""
    rng = np.random.default_rng(0)
    data = _Scaled(log, discount)
    weight = rng.standard_normal((data.here.shape[1], width)) * 1.5 / np.sqrt(data.here.shape[1])
    shift = rng.uniform(-2, 2, width)

    def features(observation: Array) -> Array:
        return np.c_[np.tanh(observation @ weight + shift), np.ones(len(observation))]

    here, there = features(data.here), features(data.there)
    traces, trace, carry = np.empty_like(here), np.zeros(here.shape[1]), 0.0
    for time in range(len(here)):
        trace = data.ratio[time] * (carry * trace + here[time])
        traces[time] = trace
        carry = 0.0 if data.ends[time] else data.discount[time] * decay
    A = traces.T @ (here - data.discount[:, None] * there) / len(here)
    b = traces.T @ data.reward / len(here)
    head = np.linalg.solve(A + ridge * np.eye(len(A)), b)
    return lambda observation, policy: features(data.of(observation)) @ head * data.unit


def _network(inputs: int, outputs: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(),
        nn.Linear(HIDDEN, outputs),
    )  # fmt: skip


def _tensors(*arrays: Array) -> list[torch.Tensor]:
    return [torch.as_tensor(array, dtype=torch.float32) for array in arrays]


def _value_of(network: nn.Module, data: _Scaled) -> Value:
    def value(observation: Array, policy: Array) -> Array:
        with torch.no_grad():
            return network(*_tensors(data.of(observation)))[:, 0].double().numpy() * data.unit

    return value


def td(log: Log, discount: float) -> Value:
    """TD(0) with a network, Adam and replay; the importance ratio weighs every sample."""
    data = _Scaled(log, discount)
    network = _network(data.here.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    here, there, reward, factor, ratio = _tensors(
        data.here, data.there, data.reward, data.discount, data.ratio
    )
    for _ in range(UPDATES):
        rows = torch.randint(len(here), (BATCH,))
        with torch.no_grad():
            target = reward[rows] + factor[rows] * network(there[rows])[:, 0]
        loss = (ratio[rows] * (target - network(here[rows])[:, 0]).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return _value_of(network, data)


def fitted(log: Log, discount: float, decay: float, rounds: int = 20) -> Value:
    """Regression on λ-returns, recomputed with the present network; λ = 1 is Monte Carlo."""
    data = _Scaled(log, discount)
    network = _network(data.here.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    here, there = _tensors(data.here, data.there)
    for _ in range(rounds):
        with torch.no_grad():
            after = network(there)[:, 0].double().numpy()
        (goal,) = _tensors(backwards(data.reward, data.discount, data.ends, after, decay))
        for _ in range(UPDATES // rounds):
            rows = torch.randint(len(here), (BATCH,))
            loss = (goal[rows] - network(here[rows])[:, 0]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return _value_of(network, data)


def fqe(log: Log, discount: float, period: int = 200) -> Value:
    """Fitted Q evaluation (Le et al. 2019): Q(s, a) with a target network, no ratio needed."""
    data = _Scaled(log, discount)
    actions = log.next_target.shape[1]
    network, old = (_network(data.here.shape[1], actions) for _ in range(2))
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    here, there, reward, factor, after = _tensors(
        data.here, data.there, data.reward, data.discount, log.next_target
    )
    action = torch.as_tensor(log.action)
    for update in range(UPDATES):
        if update % period == 0:
            old.load_state_dict(network.state_dict())
        rows = torch.randint(len(here), (BATCH,))
        with torch.no_grad():
            target = reward[rows] + factor[rows] * (after[rows] * old(there[rows])).sum(1)
        chosen = network(here[rows]).gather(1, action[rows, None])[:, 0]
        loss = (target - chosen).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def value(observation: Array, policy: Array) -> Array:
        with torch.no_grad():
            values = network(*_tensors(data.of(observation))).double().numpy()
        return (policy * values).sum(1) * data.unit

    return value


PEERS: dict[str, tuple[Callable[..., Value], bool]] = {
    # name: (method, whether it can learn off-policy)
    "constant": (constant, False),
    "lstd(0)": (lambda log, discount: lstd(log, discount, 0.0), True),
    "lstd(0.9)": (lambda log, discount: lstd(log, discount, 0.9), True),
    "td": (td, True),
    "fitted(0.95)": (lambda log, discount: fitted(log, discount, 0.95), False),
    "monte-carlo": (lambda log, discount: fitted(log, discount, 1.0), False),
    "fqe": (fqe, True),
}
