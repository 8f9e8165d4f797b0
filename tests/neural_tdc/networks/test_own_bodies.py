"""Bodies of the user's own: what may serve as one, what may not, and what is said of it."""

import re

import pytest
import torch
from torch import nn

from neural_tdc.networks.bodies import mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.networks.validation import check_body

F64 = torch.float64


def detached(module):
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


class LastOfGRU(nn.Module):
    """Read a sequence and return the last state."""

    def __init__(self, batch_first=True):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=batch_first)

    def forward(self, observation):
        return self.gru(observation)[0][:, -1]


class CellInSinglePrecision(nn.Module):
    """Start from a state that is single precision whatever the observation is."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(3, 4)

    def forward(self, observation):
        return self.cell(observation[:, 0], torch.zeros(len(observation), 4, dtype=torch.float32))


class Attention(nn.Module):
    """Attend within a sequence and average."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, observation):
        x = self.embed(observation)
        return self.attend(x, x, x, need_weights=False)[0].mean(1)


class Encoder(nn.Module):
    """Use PyTorch's own transformer layer, which has a fast path for evaluation."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)

    def forward(self, observation):
        return self.layer(self.embed(observation)).mean(1)


class Scaled(nn.Module):
    """Have a parameter that is a single number."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, observation):
        return self.scale * self.linear(observation).tanh()


VECTOR, SEQUENCE, IMAGE = (3,), (5, 3), (2, 9, 8)

GOOD = {
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.SiLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 4)
        ),
        IMAGE,
        4,
    ),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 7), nn.GroupNorm(2, 4), nn.Tanh(), nn.Flatten()),
        IMAGE,
        24,
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 5)),
        VECTOR,
        5,
    ),
    "the layer norm at hand": (lambda: mlp((3,), 5, (6,), layer_norm=True), VECTOR, 5),
    "instance norm": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3), nn.Tanh(), nn.Flatten()),
        IMAGE,
        126,
    ),
    "dropout, evaluated": (
        lambda: nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, 5)),
        VECTOR,
        5,
    ),
    "gated recurrent unit": (LastOfGRU, SEQUENCE, 4),
    "attention": (Attention, SEQUENCE, 6),
    "transformer layer": (Encoder, SEQUENCE, 6),
    "a single number": (Scaled, VECTOR, 4),
}


@pytest.mark.parametrize(("make", "shape", "width"), GOOD.values(), ids=GOOD.keys())
def test_a_pure_body_is_accepted_and_its_population_has_the_right_gradients(make, shape, width):
    torch.manual_seed(0)
    module = make()
    observation = torch.randn(3, *shape)
    assert check_body(module, observation) == width
    features = feature_map(module)
    body = {name: tensor.double() for name, tensor in detached(module).items()}
    observation = observation.double()
    runs = {name: torch.stack([tensor, 1.3 * tensor]) for name, tensor in body.items()}
    cotangent = torch.randn(2, 3, width, dtype=F64)

    def gradient(body, cotangent):
        _, pull_back = torch.func.vjp(lambda b: features(b, observation), body)
        return pull_back(cotangent)[0]

    with torch.no_grad():
        got = torch.vmap(gradient)(runs, cotangent)
        for name in body:
            direction = torch.randn_like(body[name])
            for run in range(2):
                one = {other: tensor[run] for other, tensor in runs.items()}
                above, below = (
                    features({**one, name: one[name] + sign * 1e-6 * direction}, observation)
                    for sign in (1, -1)
                )
                slope = float((cotangent[run] * (above - below)).sum()) / 2e-6
                found = float((got[name][run] * direction).sum())
                assert found == pytest.approx(slope, rel=1e-5, abs=1e-7)


class Branch(nn.Module):
    """Decide by the numbers themselves."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        y = self.linear(x)
        return y if y.sum() > 0 else -y


class Drop(nn.Module):
    """Drop units in eval mode too."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


class Running(nn.Module):
    """Keep a running mean of what it sees."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))

    def forward(self, x):
        self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return x - self.mean


class Counting(nn.Module):
    """Return something else at every call."""

    def __init__(self):
        super().__init__()
        self.linear, self.calls = nn.Linear(3, 4), 0

    def forward(self, x):
        self.calls += 1
        return self.calls * self.linear(x)


class Centred(nn.Module):
    """Subtract the batch's mean."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x):
        y = self.linear(x)
        return y - y.mean(0)


class NotANumber(nn.Module):
    """Return something that is no tensor."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x):
        return self.linear(x), None


def after_linear(*layers):
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), *layers)


BAD = {
    "data-dependent if": (lambda: after_linear(Branch()), VECTOR, "'2 (Branch)'"),
    "dropout that never sleeps": (lambda: after_linear(Drop()), VECTOR, "'2 (Drop)'"),
    "running statistics": (lambda: after_linear(Running()), VECTOR, "'2 (Running)'"),
    "batch statistics": (
        lambda: after_linear(nn.BatchNorm1d(6, track_running_stats=False)),
        VECTOR,
        "'2 (BatchNorm1d)'",
    ),
    "batch norm": (
        lambda: after_linear(nn.BatchNorm1d(6)),
        VECTOR,
        "layer '2' (BatchNorm1d) normalises nothing here",
    ),
    "batch norm of images": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten()),
        IMAGE,
        "layer '1' (BatchNorm2d) normalises nothing here",
    ),
    "instance norm that keeps statistics": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten()
        ),
        IMAGE,
        "layer '1' (InstanceNorm2d) normalises nothing here",
    ),
    "spectral norm": (
        lambda: after_linear(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4))),
        VECTOR,
        "layer '2' is parametrized",
    ),
    "spectral norm of old": (
        lambda: after_linear(nn.utils.spectral_norm(nn.Linear(6, 4))),
        VECTOR,
        "layer '2' is parametrized",
    ),
    "weight norm": (
        lambda: after_linear(nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))),
        VECTOR,
        "layer '2' is parametrized",
    ),
    "lazy layer": (lambda: after_linear(nn.LazyLinear(4)), VECTOR, "layer '2' is lazy"),
    "other calls, other results": (Counting, VECTOR, "Counting is not a pure function"),
    "mixed batch": (Centred, VECTOR, "Centred mixes the observations of a batch"),
    "time taken for the batch": (lambda: LastOfGRU(False), SEQUENCE, "LastOfGRU mixes"),
    "single precision only": (CellInSinglePrecision, SEQUENCE, "in float64"),
    "no tensor": (NotANumber, VECTOR, "NotANumber"),
    "one axis too few": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Flatten(0)),
        VECTOR,
        "must return features of shape [3, d], not (12,)",
    ),
    "one axis too many": (lambda: nn.Linear(3, 4), SEQUENCE, "[3, d], not (3, 5, 4)"),
    "wrong observations": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()),
        IMAGE,
        "cannot take observations of shape (2, 9, 8)",
    ),
    "infinite features": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Hardtanh(), _Log()),
        VECTOR,
        "returns features that are not finite",
    ),
}


class _Log(nn.Module):
    def forward(self, x):
        return (x - 2).log()


@pytest.mark.parametrize(("make", "shape", "named"), BAD.values(), ids=BAD.keys())
def test_what_is_no_body_is_refused_in_one_line_that_names_it(make, shape, named):
    torch.manual_seed(0)
    module = make()
    observation = torch.randn(3, *shape)
    with pytest.raises(ValueError, match=r"^body: [^\n]*$") as refusal:
        check_body(module, observation)
    assert named in str(refusal.value)


def test_a_long_short_term_memory_that_fails_while_learning_is_refused_at_the_start():
    class LastOfLSTM(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)

        def forward(self, observation):
            return self.lstm(observation)[0][:, -1]

    module, observation = LastOfLSTM(), torch.zeros(3, 5, 3)
    features = feature_map(module)
    pair = {name: torch.stack([p, p]) for name, p in detached(module).items()}

    def gradient(body):
        value, pull_back = torch.func.vjp(lambda b: features(b, observation), body)
        return pull_back(value)[0]

    try:
        with torch.no_grad():
            torch.vmap(gradient)(pair)
        works = True
    except RuntimeError:
        works = False
    if works:
        assert check_body(module, observation) == 4
    else:
        with pytest.raises(ValueError, match="LastOfLSTM"):
            check_body(module, observation)


def test_checking_a_body_leaves_the_global_generator_and_the_gradient_mode_as_they_were():
    good, bad = mlp((3,)), after_linear(Drop())
    before = torch.get_rng_state()
    check_body(good, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="Drop"):
        check_body(bad, torch.zeros(3, 3))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_a_refused_body_keeps_no_hooks():
    module = after_linear(Branch())
    with pytest.raises(ValueError, match=re.escape("'2 (Branch)'")):
        check_body(module, torch.zeros(3, 3))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
