"""Values of actions in a file: q with an action, V from the policy without one."""

import pytest
import torch

from neural_tdc.action_values.rows import ActionRows
from neural_tdc.action_values.saved import action_record
from neural_tdc.networks.bodies import initial_bodies, mlp
from neural_tdc.tensor_file import save_tensors
from neural_tdc.value_file import FILE, description, load_value

RUNS, STATE, FEATURE, ACTION, BATCH = 3, 2, 5, 4, 7
SETTINGS = {"features": FEATURE, "hidden": (6,)}
SHIFT, SCALE = torch.tensor([1.0, -2.0]), torch.tensor([2.0, 4.0])


def write(tmp_path, *, make=True, head=None, shape=(STATE,), **options):
    """Write values of actions of three runs, the second of them diverged; return body and head."""
    rows = options.pop("rows", ActionRows(shape, ACTION))
    table = options.pop("table", None)
    inputs = shape if rows.discrete else (STATE + rows.size,)
    module, bodies = initial_bodies(lambda _: mlp(inputs, **SETTINGS), shape, 0, RUNS)
    prefix = "body." if rows.discrete else ""
    blocks = rows.size * FEATURE if rows.discrete else FEATURE
    if head is None:
        head = torch.randn(RUNS, blocks, generator=torch.Generator().manual_seed(1))
    content = description(
        {prefix + name: tensor for name, tensor in bodies.items()} if make else {},
        head,
        torch.tensor([False, True, False]),
        make={"name": "mlp", "settings": SETTINGS, "seed": 0} if make else None,
        observation_shape=shape,
        shift=SHIFT if make else None,
        scale=SCALE if make else None,
        table=table,
        actions=action_record(rows, **options),
    )
    with (tmp_path / FILE).open("wb") as file:
        save_tensors(content, file)
    return module, bodies, head


def phi(module, bodies, run, inputs):
    return torch.func.functional_call(module, {n: t[run] for n, t in bodies.items()}, (inputs,))


def raw_observations():
    return torch.randn(BATCH, STATE, generator=torch.Generator().manual_seed(2))


def leaning(observation):
    """Return probabilities that depend on the raw observation."""
    scores = observation[:, :1] * torch.arange(ACTION)
    return scores.softmax(1)


def make_leaning(actions):
    assert actions == ACTION
    return leaning


HERE = __name__


def test_q_and_v_are_those_of_the_heads(tmp_path):
    module, bodies, head = write(tmp_path, policy=f"{HERE}:leaning")
    value, raw = load_value(tmp_path), raw_observations()
    action = torch.tensor([0, 3, 1, 1, 2, 0, 3])
    q = torch.stack(
        [
            phi(module, bodies, run, (raw - SHIFT) / SCALE) @ head[run].view(ACTION, FEATURE).T
            for run in range(RUNS)
        ]
    )
    at_action = q.gather(2, action.expand(RUNS, BATCH)[..., None])[..., 0]
    assert torch.allclose(value.of_runs(raw, action), at_action, atol=1e-5)
    assert torch.allclose(value(raw, action), (at_action[0] + at_action[2]) / 2, atol=1e-5)
    v = (leaning(raw) * q).sum(2)
    assert torch.allclose(value(raw), (v[0] + v[2]) / 2, atol=1e-5)
    assert torch.allclose(value(raw, run=1), v[1], atol=1e-5)
    assert torch.allclose(value(raw[4], 2, run=1), at_action[1, 4], atol=1e-5)
    assert value(raw.tolist(), action.tolist()).shape == (BATCH,)
    assert torch.allclose(value(raw, 2), value(raw, torch.full((BATCH,), 2)))
    assert torch.allclose(value.network(1)(raw), q[1], atol=1e-5)
    spread = (at_action[0] - at_action[2]).abs() / 2**0.5
    assert torch.allclose(value.spread(raw, action), spread, atol=1e-5)


def test_a_policy_is_made_from_its_settings_or_passed_in(tmp_path):
    write(tmp_path, policy=f"{HERE}:leaning")
    expected = load_value(tmp_path)(raw_observations())
    write(tmp_path, policy=f"{HERE}:make_leaning", settings={"actions": ACTION})
    assert torch.equal(load_value(tmp_path)(raw_observations()), expected)
    write(tmp_path)
    assert torch.equal(load_value(tmp_path, policy=leaning)(raw_observations()), expected)


def test_a_policy_sees_observations_in_float32_also_where_they_are_given_in_float64(tmp_path):
    network = torch.nn.Sequential(torch.nn.Linear(STATE, ACTION), torch.nn.Softmax(1))
    write(tmp_path)
    value = load_value(tmp_path, policy=network)
    torch.testing.assert_close(value(raw_observations().double()), value(raw_observations()))


def test_actions_are_numbered_as_the_environment_counts_them(tmp_path):
    write(tmp_path)
    expected = load_value(tmp_path)(raw_observations(), 2)
    write(tmp_path, lowest=-1)
    value = load_value(tmp_path)
    assert torch.equal(value(raw_observations(), 1), expected)
    with pytest.raises(ValueError, match="actions are numbered from 0 to 3"):
        value(raw_observations(), 3)


def test_on_a_chain_v_is_known_for_states_and_their_observations(tmp_path):
    probability = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.25] * 4, [1.0, 0, 0, 0]])
    table = torch.eye(3)
    blocks = torch.randn(RUNS, 3 * ACTION, generator=torch.Generator().manual_seed(3))
    rows = ActionRows((3,), ACTION, given=True)
    written = {"make": False, "head": blocks, "shape": (3,), "rows": rows, "table": table}
    write(tmp_path, probability=probability, **written)
    value = load_value(tmp_path)
    q = blocks.view(RUNS, ACTION, 3).transpose(1, 2)
    v = (probability * q).sum(2)
    assert torch.allclose(value.of_runs([0, 1, 2]), v, atol=1e-6)
    assert torch.allclose(value.of_runs(table[[2, 0]]), v[:, [2, 0]], atol=1e-6)
    assert torch.allclose(value(1, run=0), v[0, 1], atol=1e-6)
    assert torch.allclose(value([2, 0], [3, 1], run=2), q[2, [2, 0], [3, 1]], atol=1e-6)
    with pytest.raises(ValueError, match="known at the chain's own observations only"):
        value([[0.5, 0.5, 0.0]])
    uniform = load_value(tmp_path, policy=lambda s: torch.full((len(s), ACTION), 0.25))
    assert torch.allclose(uniform.of_runs([[0.5, 0.5, 0.0]]), q[:, :2].mean(1).mean(1)[:, None])


def test_continuous_actions_are_an_input_and_v_a_mean_over_draws(tmp_path):
    rows = ActionRows((STATE,), 3, discrete=False)
    module, bodies, head = write(tmp_path, rows=rows)
    raw, action = raw_observations(), torch.randn(BATCH, 3)
    value = load_value(tmp_path, policy=lambda observation: observation[:, :1].repeat(1, 3))
    inputs = torch.cat([(raw - SHIFT) / SCALE, action], 1)
    expected = phi(module, bodies, 0, inputs) @ head[0]
    assert torch.allclose(value(raw, action, run=0), expected, atol=1e-5)
    network = value.network(0)(torch.cat([raw, action], 1))[:, 0]
    assert torch.allclose(network, expected, atol=1e-5)
    deterministic = value(raw, raw[:, :1].repeat(1, 3))
    assert torch.allclose(value(raw), deterministic, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"the policy of these values is in no module .*: give an action, or load_value\("),
        ({"policy": "no_such:f"}, "the policy no_such:f cannot be imported here: No module named"),
        ({"policy": f"{HERE}:nothing"}, "the policy .*:nothing cannot be imported here: module"),
        ({"policy": f"{HERE}:phi"}, "policy failed on observations of shape"),
        ({"policy": f"{HERE}:make_leaning", "settings": {"actions": 2}}, ".*give an action, or"),
    ],
)
def test_a_policy_that_cannot_be_made_is_one_line_and_q_is_there_without_it(
    tmp_path, options, message
):
    write(tmp_path, **options)
    value = load_value(tmp_path)
    assert value(raw_observations(), 1).shape == (BATCH,)
    with pytest.raises(ValueError, match=f"^{message}") as refused:
        value(raw_observations())
    assert "\n" not in str(refused.value)


def test_values_of_states_take_no_action_and_no_policy(tmp_path):
    _, bodies = initial_bodies(lambda shape: mlp(shape, **SETTINGS), (STATE,), 0, 1)
    make = {"name": "mlp", "settings": SETTINGS, "seed": 0}
    none = torch.tensor([False])
    head = torch.ones(1, FEATURE)
    content = description(bodies, head, none, make=make, observation_shape=(STATE,))
    with (tmp_path / FILE).open("wb") as file:
        save_tensors(content, file)
    with pytest.raises(ValueError, match=r"^these are values of states, not of actions"):
        load_value(tmp_path)(raw_observations(), 0)
    with pytest.raises(ValueError, match="holds values of states, which need no policy"):
        load_value(tmp_path, policy=leaning)
