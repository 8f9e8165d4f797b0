"""The value function as a file: what is loaded is what was learned."""

import pickle

import pytest
import torch
from torch import nn

from neural_tdc.networks.bodies import initial_bodies, mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.value_function import FILE, description, load_value

RUNS, STATE, FEATURE, BATCH = 3, 2, 5, 7


def saved(tmp_path, **changes):
    """Write a value function of three runs, the second of them diverged."""
    settings = {"features": FEATURE, "hidden": (4,)}
    module, bodies = initial_bodies(lambda shape: mlp(shape, **settings), (STATE,), 0, RUNS)
    head = torch.randn(RUNS, FEATURE, generator=torch.Generator().manual_seed(1))
    content = description(
        bodies,
        head,
        torch.tensor([False, True, False]),
        make={"name": "mlp", "settings": settings},
        observation_shape=(STATE,),
        shift=torch.tensor([1.0, -2.0]),
        scale=torch.tensor([2.0, 4.0]),
    )
    torch.save({**content, **changes}, tmp_path / FILE)
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


def test_the_network_of_a_run_is_a_plain_module_with_the_same_values(tmp_path):
    saved(tmp_path)
    value = load_value(tmp_path)
    network = value.network(2)
    raw = torch.randn(BATCH, STATE, generator=torch.Generator().manual_seed(2))
    observation = (raw - torch.tensor([1.0, -2.0])) / torch.tensor([2.0, 4.0])
    assert torch.allclose(network(observation)[:, 0], value(raw, run=2), atol=1e-6)
    fresh = nn.Sequential(mlp((STATE,), FEATURE, (4,)), nn.Linear(FEATURE, 1, bias=False))
    fresh.load_state_dict(network.state_dict())


def test_state_numbers_are_looked_up_in_the_table_of_a_chain(tmp_path):
    table = torch.eye(4)[:, :STATE]
    saved(tmp_path, table=table, shift=None, scale=None)
    value = load_value(tmp_path)
    assert torch.equal(value(torch.tensor([3, 1])), value(table[[3, 1]]))


def test_given_features_need_no_body(tmp_path):
    head = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    content = description({}, head, torch.tensor([False, False]), make=None, observation_shape=(2,))
    torch.save(content, tmp_path / FILE)
    value = load_value(tmp_path)
    assert value(torch.tensor([[1.0, 10.0]])).tolist() == [32.0]
    assert value.of_runs(torch.tensor([[1.0, 10.0]])).tolist() == [[21.0], [43.0]]


def test_observations_of_another_shape_are_refused(tmp_path):
    saved(tmp_path)
    with pytest.raises(ValueError, match=r"shape \[batch, 2\], not \[7, 3\]"):
        load_value(tmp_path)(torch.zeros(BATCH, 3))


class Evil:
    """Would create a file when unpickled."""

    def __reduce__(self):
        return (open, ("evil", "w"))


@pytest.mark.parametrize("content", ["missing", "damaged", "foreign", "code"])
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
    elif content == "code":
        path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match=rf"^\S*{FILE} [^\n]*$"):
        load_value(tmp_path)
    assert not (tmp_path / "evil").exists()
