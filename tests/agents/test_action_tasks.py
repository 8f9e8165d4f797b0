"""Problems made ready for values of actions: the streams of V, with rows for observations."""

import numpy as np
import pytest
import torch

from agents.action_chain import action_chain_task
from agents.logged_task import logged_task
from agents.policy_evaluation import chain_task, control_task
from agents.starts import start_states, with_start_values
from envs.control.problems import control_problem
from envs.finite.finite_mdp import action_chain, chain
from envs.finite.standard_problems import problem
from envs.logs.logged_problem import logged_problem
from neural_tdc.learning.experience import gather
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters

F64 = torch.float64


def batches(task, count=40):
    """Return the first transitions of every run as a rule gets them."""
    runs = len(task.experience.stream_index)
    return gather(task.experience, torch.arange(count).expand(runs, count))


@pytest.mark.parametrize("given", [False, True])
def test_a_chains_pairs_are_those_of_its_streams(given):
    mdp = problem("garnet-off-policy")
    options = {"given": given, "runs": 2, "transitions": 50, "seed": 1, "dtype": F64}
    v, q = batches(chain_task(mdp, **options)), batches(action_chain_task(mdp, **options))
    actions = mdp.target.shape[1]
    assert torch.equal(q.reward, v.reward)
    assert torch.equal(q.discount, v.discount)
    assert torch.equal(q.ratio, v.ratio)
    assert torch.equal(q.first, v.first)
    width = v.observation.shape[2]
    if given:
        assert q.observation.shape[2] == actions * width
        blocks = q.observation.view(2, 40, actions, width)
        assert torch.equal(blocks.sum(2), v.observation)
        after = q.next_observation.view(2, 40, actions, width)
        assert torch.allclose(after.sum(2), v.next_observation, atol=1e-12)
    else:
        assert torch.equal(q.observation[..., :width], v.observation)
        assert torch.equal(q.next_observation[..., :width], v.next_observation)
        state = v.next_observation.argmax(2)
        assert torch.equal(q.next_observation[..., width:], mdp.target[state])
        assert torch.equal(q.observation[..., width:].sum(2), torch.ones(2, 40, dtype=F64))


def test_the_true_q_on_tabular_features_has_no_error():
    mdp = problem("random-walk-tabular")
    task = action_chain_task(mdp, given=True, runs=1, transitions=5, seed=0)
    heads = action_chain(mdp).value().view(5, 2).T.flatten()
    parameters = Parameters({}, heads[None], {})
    found = task.evaluator(given_features, RULES["td"].with_given_features())(parameters)
    for error in ("rmsve", "rmsqe", "rmspbe", "lstd_rmsve"):
        assert float(found[f"error/{error}"]) < 1e-7, error


def test_the_initial_head_of_baird_is_that_of_every_action():
    mdp = problem("baird")
    options = {"given": True, "runs": 1, "transitions": 5, "seed": 0}
    task = action_chain_task(mdp, **options)
    found = task.evaluator(given_features, RULES["td"].with_given_features())(
        Parameters({}, task.head[None].double(), {})
    )
    # V = (3, …, 3, 12), and v = 0.
    d = chain(mdp).weighting
    expected = (9 * d[:6].sum() + 144 * d[6]).sqrt()
    assert float(found["error/rmsve"]) == pytest.approx(float(expected))


def pushing(observation):
    """Return probabilities that depend on the raw velocity."""
    right = (0.2 + 0.6 * (observation[:, 1] > 0)).float()
    return torch.stack([1 - right, torch.zeros_like(right), right], 1)


def test_a_gymnasium_problem_has_the_actions_that_it_was_collected_by():
    made = control_problem("MountainCar-v0", pushing, "uniform")
    options = {"runs": 2, "transitions": 30, "seed": 0, "states": 3, "rollouts": 2}
    options["held_out_size"] = 40
    v, q = (control_task(made, of_actions=flag, **options) for flag in (False, True))
    one, other = batches(v, 30), batches(q, 30)
    assert torch.equal(other.observation[..., :2], one.observation)
    taken = other.observation[..., 2:]
    assert torch.equal(taken.sum(2), torch.ones(2, 30))
    assert len(taken.argmax(2).unique()) == 3
    raw = one.next_observation * v.scale + v.shift
    assert torch.allclose(other.next_observation[0, :, 2:], pushing(raw[0]))
    # 3π: 0 for coasting.
    assert torch.equal(other.ratio == 0, taken[..., 1] == 1)
    assert q.truth.observation.shape == (3, 5)
    at_truth = q.truth.observation[:, :2] * v.scale + v.shift
    assert torch.allclose(q.truth.observation[:, 2:], pushing(at_truth))
    assert q.actions.rows.observation_shape == (2,)


def test_a_log_without_behaviour_probabilities_serves_q(tmp_path):
    draws = np.random.default_rng(0)
    rows = {
        "observation": draws.normal(size=(60, 2)),
        "action": draws.integers(2, size=60),
        "reward": draws.normal(size=60),
        "terminated": np.zeros(60, bool),
        "truncated": np.zeros(60, bool),
    }
    np.savez(tmp_path / "log.npz", **rows)

    def half(observation):
        return torch.stack([(observation[:, 0] > 0).float(), (observation[:, 0] <= 0).float()], 1)

    with pytest.raises(ValueError, match="has no array behaviour_probability"):
        logged_problem(tmp_path / "log.npz", 0.9, half)
    made = logged_problem(tmp_path / "log.npz", 0.9, half, ratios=False)
    task = logged_task(made, runs=2, of_actions=True, dtype=F64)
    seen = batches(task, 20)
    taken = torch.nn.functional.one_hot(torch.from_numpy(rows["action"][:20]), 2).double()
    assert torch.equal(seen.observation[0, :, 2:], taken)
    after = half(torch.from_numpy(rows["observation"][1:21])).double()
    assert torch.equal(seen.next_observation[1, :, 2:], after)
    with pytest.raises(ValueError, match="values of actions need the policy to evaluate"):
        logged_task(logged_problem(tmp_path / "log.npz", 0.9), runs=1, of_actions=True)
    longer = logged_problem(
        tmp_path / "log.npz", 0.9, lambda s: torch.full((len(s), 5), 0.2), ratios=False
    )
    assert logged_task(longer, runs=1, of_actions=True).actions.rows.size == 5


@pytest.mark.parametrize("given", [False, True])
def test_the_observation_of_a_row_is_the_states(given):
    mdp = problem("garnet-off-policy")
    task = action_chain_task(mdp, given=given, runs=1, transitions=5, seed=0, dtype=F64)
    seen = mdp.features if given else mdp.observation
    rows = task.actions.rows
    assert torch.allclose(rows.observation(task.experience.table[-30:]), seen, atol=1e-12)
    assert torch.equal(rows.observation(task.experience.table[5:6]), seen[1:2])


def test_the_starts_of_the_data_have_the_value_of_their_state():
    mdp = problem("random-walk-tabular")
    task = action_chain_task(mdp, given=True, runs=2, transitions=40, seed=0)
    starts = start_states(task)
    # All episodes start in the middle.
    assert torch.equal(starts.weight, torch.ones(1, 1, dtype=F64))
    heads = action_chain(mdp).value().view(5, 2).T.flatten()
    evaluator = with_start_values(lambda _: {}, given_features, starts)
    found = evaluator(Parameters({}, heads.expand(2, -1), {}))
    assert found["value/starts"].tolist() == pytest.approx([float(chain(mdp).value()[2])] * 2)

    made = control_problem("MountainCar-v0", pushing, "uniform")
    options = {"runs": 1, "transitions": 30, "seed": 0, "states": 3, "rollouts": 2}
    task = control_task(made, of_actions=True, held_out_size=40, **options)
    starts = start_states(task)
    # The car starts at rest: a velocity of 0, standardised and turned back, may be above 0.
    assert starts.observation.shape == (1, 5)
    assert torch.equal(starts.observation[:, 2:], pushing(torch.zeros(1, 2)))
