"""The value function as a file: what is loaded is what was learned."""

import importlib
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from neural_tdc.networks.bodies import initial_bodies, mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.tensor_file import save_tensors
from neural_tdc.value_file import FILE, FORMAT, description, load_value

RUNS, STATE, FEATURE, BATCH = 3, 2, 5, 7


def written(content, path):
    with path.open("wb") as file:
        save_tensors(content, file)


def saved(tmp_path, **changes):
    """Write a value function of three runs, the second of them diverged."""
    settings = {"features": FEATURE, "hidden": (4,)}
    module, bodies = initial_bodies(lambda shape: mlp(shape, **settings), (STATE,), 0, RUNS)
    head = torch.randn(RUNS, FEATURE, generator=torch.Generator().manual_seed(1))
    content = description(
        bodies,
        head,
        torch.tensor([False, True, False]),
        make={"name": "mlp", "settings": settings, "seed": 0},
        observation_shape=(STATE,),
        shift=torch.tensor([1.0, -2.0]),
        scale=torch.tensor([2.0, 4.0]),
    )
    written({**content, **changes}, tmp_path / FILE)
    return module, bodies, head


def test_loaded_values_are_those_of_the_parameters_on_standardised_observations(tmp_path):
    module, bodies, head = saved(tmp_path)
    value = load_value(tmp_path)
    raw = torch.randn(BATCH, STATE, generator=torch.Generator().manual_seed(2))
    observation = (raw - torch.tensor([1.0, -2.0])) / torch.tensor([2.0, 4.0])
    features = feature_map(module)
    expected = [
        features({name: tensor[run] for name, tensor in bodies.items()}, observation) @ head[run]
        for run in range(RUNS)
    ]
    assert torch.allclose(value.of_runs(raw), torch.stack(expected), atol=1e-6)
    assert torch.allclose(value(raw, run=1), expected[1], atol=1e-6)
    assert torch.allclose(value(raw), (expected[0] + expected[2]) / 2, atol=1e-6)


def test_the_network_of_a_run_takes_raw_observations_and_has_the_same_values(tmp_path):
    saved(tmp_path)
    value = load_value(tmp_path)
    raw = torch.randn(BATCH, STATE, generator=torch.Generator().manual_seed(2))
    for run in range(RUNS):
        assert torch.allclose(value.network(run)(raw)[:, 0], value(raw, run=run), atol=1e-6)


def test_values_are_within_the_limits_of_the_file(tmp_path):
    saved(tmp_path)
    raw = torch.randn(BATCH, STATE, generator=torch.Generator().manual_seed(2))
    free = load_value(tmp_path).of_runs(raw)
    low, high = float(free.quantile(0.25)), float(free.quantile(0.75))
    saved(tmp_path, limits=[low, high])
    value = load_value(tmp_path)
    assert torch.equal(value.of_runs(raw), free.clamp(low, high))
    assert torch.allclose(value.network(2)(raw)[:, 0], free[2].clamp(low, high), atol=1e-6)


def test_every_network_is_a_copy_of_its_own(tmp_path):
    _, bodies, head = saved(tmp_path)
    value = load_value(tmp_path)
    raw = torch.randn(BATCH, STATE)
    before = value.of_runs(raw)
    first, second = value.network(0), value.network(1)
    assert torch.equal(first[1][0].weight, bodies["0.weight"][0])
    assert torch.equal(second[1][0].weight, bodies["0.weight"][1])
    assert torch.equal(first[2].weight[0], head[0])
    with torch.no_grad():
        for tensor in [*second.parameters(), second[0].shift]:
            tensor.zero_()
    assert torch.allclose(first(raw)[:, 0], value(raw, run=0), atol=1e-6)
    assert torch.equal(value.of_runs(raw), before)
    doubled = value.network(0).double()
    assert torch.allclose(doubled(raw.double())[:, 0].float(), before[0], atol=1e-6)
    assert torch.equal(value.of_runs(raw), before)


def test_a_plain_state_dict_gives_the_values_elsewhere(tmp_path):
    saved(tmp_path)
    value = load_value(tmp_path)
    state = value.network(2).state_dict()
    assert list(state) == [
        "0.shift", "0.scale", "1.0.weight", "1.0.bias", "1.2.weight", "1.2.bias", "2.weight",
    ]  # fmt: skip
    fresh = nn.Sequential(mlp((STATE,), FEATURE, (4,)), nn.Linear(FEATURE, 1, bias=False))
    fresh.load_state_dict(
        {f"{int(name[0]) - 1}{name[1:]}": state[name] for name in list(state)[2:]}
    )
    raw = torch.randn(BATCH, STATE)
    elsewhere = fresh((raw - state["0.shift"]) / state["0.scale"])[:, 0]
    assert torch.allclose(elsewhere, value(raw, run=2), atol=1e-6)


def test_values_of_arrays_lists_and_a_single_observation_are_those_of_tensors(tmp_path):
    saved(tmp_path)
    value = load_value(tmp_path)
    raw = torch.randn(BATCH, STATE)
    expected = value(raw)
    assert expected.shape == (BATCH,)
    single = raw[3].numpy()
    single.setflags(write=False)
    for given in (raw.numpy(), raw.double(), raw.tolist(), [row.numpy() for row in raw]):
        assert torch.allclose(value(given), expected)
    for given in (raw[3], single, raw[3].tolist()):
        assert torch.allclose(value(given), expected[3])
        assert value(given).shape == ()
        assert value.of_runs(given).shape == (RUNS,)
        assert torch.allclose(value(given, run=1), value(raw, run=1)[3])
    assert torch.equal(value([1, 2]), value(torch.tensor([1.0, 2.0])))


def test_the_spread_is_the_standard_deviation_over_the_runs_that_did_not_diverge(tmp_path):
    saved(tmp_path)
    value = load_value(tmp_path)
    raw = torch.randn(BATCH, STATE)
    first, _, third = value.of_runs(raw)
    assert torch.allclose(value.spread(raw), (first - third).abs() / 2**0.5, atol=1e-6)
    assert value.spread(raw[0]).shape == ()
    saved(tmp_path, diverged=torch.tensor([True, False, True]))
    value = load_value(tmp_path)
    assert torch.equal(value(raw), value(raw, run=1))
    with pytest.raises(ValueError, match="1 of 3 runs did not diverge, 2 are needed"):
        value.spread(raw)
    saved(tmp_path, diverged=torch.tensor([True, True, True]))
    with pytest.raises(ValueError, match="0 of 3 runs did not diverge, 1 are needed"):
        load_value(tmp_path)(raw)


def test_a_run_that_there_is_not_is_refused(tmp_path):
    saved(tmp_path)
    value = load_value(tmp_path)
    for ask in (
        lambda: value.network(3),
        lambda: value([0.0, 0.0], run=-1),
        # As an index, True would be all runs.
        lambda: value([0.0, 0.0], run=True),
        lambda: value.network(True),
    ):
        with pytest.raises(ValueError, match=r"there is no run .* from 0 to 2"):
            ask()


def test_state_numbers_are_looked_up_in_the_table_of_a_chain(tmp_path):
    table = torch.eye(4)[:, :STATE]
    saved(tmp_path, table=table, shift=None, scale=None)
    value = load_value(tmp_path)
    assert torch.equal(value(torch.tensor([3, 1])), value(table[[3, 1]]))
    assert torch.equal(value([3, 1]), value(table[[3, 1]]))
    assert torch.equal(value(3), value(table[3]))
    assert value.network(0)(table).shape == (4, 1)
    for state in (4, -1, [0, 4]):
        with pytest.raises(ValueError, match="states are numbered from 0 to 3"):
            value(state)


def test_given_features_need_no_body(tmp_path):
    head = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    content = description({}, head, torch.tensor([False, False]), make=None, observation_shape=(2,))
    written(content, tmp_path / FILE)
    value = load_value(tmp_path)
    assert value(torch.tensor([[1.0, 10.0]])).tolist() == [32.0]
    assert value.of_runs(torch.tensor([[1.0, 10.0]])).tolist() == [[21.0], [43.0]]


def test_observations_of_another_shape_are_refused(tmp_path):
    saved(tmp_path)
    with pytest.raises(ValueError, match=r"shape \[batch, 2\], not \[7, 3\]"):
        load_value(tmp_path)(torch.zeros(BATCH, 3))
    with pytest.raises(ValueError, match=r"shape \[batch, 2\], not \[\]"):
        load_value(tmp_path)(1.0)
    with pytest.raises(ValueError, match="must be an array of numbers: "):
        load_value(tmp_path)([[0.0, 1.0], [2.0]])
    with pytest.raises(ValueError, match="must be an array of numbers: "):
        load_value(tmp_path)(["left", "right"])


def test_no_flipped_bit_is_read_in_silence(tmp_path):
    saved(tmp_path)
    path = tmp_path / FILE
    whole = path.read_bytes()
    draw = np.random.default_rng(3)
    said = set()
    for bit in draw.choice(8 * len(whole), 800, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError) as caught:
            load_value(tmp_path)
        said.add(str(caught.value))
    assert said == {f"{path} is damaged, or is not a value function of this library"}


def test_a_file_of_torch_reads_it_too(tmp_path):
    _, _, head = saved(tmp_path)
    assert torch.equal(torch.load(tmp_path / FILE, weights_only=True)["head"], head)


def test_a_folder_of_several_rules_names_them(tmp_path):
    for rule in ("tdc", "td"):
        (tmp_path / rule).mkdir()
        saved(tmp_path / rule)
    with pytest.raises(ValueError, match=rf"several rules; load one of \S*/td, {tmp_path}/tdc$"):
        load_value(tmp_path)
    assert load_value(tmp_path / "td").runs == RUNS


BODY = """
import torch
from torch import nn

class Drawn(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.register_buffer("drawn", torch.randn(2, size))
        self.linear = nn.Linear(size, 5)

    def forward(self, observation):
        return torch.tanh(self.linear(observation @ self.drawn))

def body(shape, size=3):
    return Drawn(size)
"""


def test_a_body_of_ones_own_is_made_again_with_what_it_drew(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "drawn_body.py").write_text(BODY)
    make_body = importlib.import_module("drawn_body").body
    module, bodies = initial_bodies(make_body, (STATE,), 11, RUNS)
    head = torch.randn(RUNS, FEATURE)
    none = torch.zeros(RUNS, dtype=torch.bool)
    make = {"name": "drawn_body:body", "settings": {}, "seed": 11}
    content = description(bodies, head, none, make=make, observation_shape=(STATE,))
    written(content, tmp_path / FILE)
    raw = torch.randn(BATCH, STATE)
    state = torch.random.get_rng_state()
    value = load_value(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    features = feature_map(module)({name: t[1] for name, t in bodies.items()}, raw)
    assert torch.allclose(value(raw, run=1), features @ head[1], atol=1e-6)
    assert torch.allclose(value.network(1)(raw)[:, 0], features @ head[1], atol=1e-6)
    content["make"] = {**make, "settings": {"size": 4}}
    written(content, tmp_path / FILE)
    with pytest.raises(ValueError, match=r"not the one that was learned: linear.weight has .*5, 4"):
        load_value(tmp_path)
    content["make"] = {**make, "settings": {"sizes": 4}}
    written(content, tmp_path / FILE)
    with pytest.raises(ValueError, match=r"drawn_body:body cannot be made here: .*sizes"):
        load_value(tmp_path)


class Evil:
    """Would create a file when unpickled."""

    def __reduce__(self):
        return (open, ("evil", "w"))


@pytest.mark.parametrize(
    "content", ["missing", "damaged", "foreign", "other", "empty", "code", "whole code"]
)
def test_a_file_that_is_none_is_refused_in_one_line_and_runs_nothing(
    tmp_path, monkeypatch, content
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / FILE
    if content == "damaged":
        saved(tmp_path)
        path.write_bytes(path.read_bytes()[:-200])
    elif content == "foreign":
        torch.save({"weights": torch.ones(2)}, path)
    elif content == "other":
        written({"weights": torch.ones(2)}, path)
    elif content == "empty":
        written({"format": FORMAT}, path)
    elif content == "code":
        path.write_bytes(pickle.dumps(Evil()))
    elif content == "whole code":
        written({"format": FORMAT, "body": Evil()}, path)
    with pytest.raises(ValueError, match=rf"^\S*{FILE} [^\n]*$"):
        load_value(tmp_path)
    assert not (tmp_path / "evil").exists()
