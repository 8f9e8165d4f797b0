"""Values of continuous actions on an environment: Pendulum with a policy of its own."""

import torch

from agents.policy_evaluation import control_task
from envs.control.problems import control_problem
from neural_tdc.action_values.preparation import DRAWS, STATE_DRAWS
from neural_tdc.learning.experience import gather
from neural_tdc.networks.feature_map import given_features
from neural_tdc.rules.registry import RULES
from neural_tdc.types import Parameters


def swinging(observation):
    """Return a distribution whose mean depends on the raw velocity, often beyond the bounds."""
    mean = 2 * observation[:, 2:3].sign()
    return torch.distributions.Normal(mean, torch.full_like(mean, 0.5))


def task(**options):
    made = control_problem("Pendulum-v1", swinging, discount=0.9)
    sizes = {"runs": 2, "transitions": 30, "seed": 0, "states": 3, "rollouts": 2}
    return control_task(made, held_out_size=40, of_actions=True, **sizes, **options)


def test_rows_are_states_and_executed_actions_and_next_actions_are_drawn_anew():
    made = task()
    experience = made.experience
    assert experience.next_action.shape == (2, 30, DRAWS, 1)
    # Within the bounds, and in most rows on one of them.
    assert float(experience.next_action.abs().max()) == 2
    index = torch.arange(30).expand(2, 30)
    one, other = (gather(experience, index, torch.tensor(k)) for k in (3, 4))
    assert one.observation.shape == one.next_observation.shape == (2, 30, 4)
    assert torch.equal(one.observation, other.observation)
    assert torch.equal(one.next_observation[..., :3], other.next_observation[..., :3])
    assert not torch.equal(one.next_observation[..., 3], other.next_observation[..., 3])
    # The action taken leads to the next angular velocity: θ̈ = 15 sin θ + 3u, in steps of 0.05.
    raw = one.observation[..., :3] * made.scale + made.shift
    after = one.next_observation[..., :3] * made.scale + made.shift
    expected = raw[..., 2] + (15 * raw[..., 1] + 3 * one.observation[..., 3]) * 0.05
    assert torch.allclose(after[..., 2], expected.clamp(-8, 8), atol=1e-4)


def test_v_of_a_state_is_the_mean_over_draws():
    made = task()
    assert made.truth.observation.shape == (3 * STATE_DRAWS, 4)
    evaluator = made.evaluator(given_features, RULES["td"].with_given_features())
    # q(s, a) = a: V is the mean action, near the bound that the velocity leans to.
    head = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    found = float(evaluator(Parameters({}, head, {}))["error/rmsve"])
    mean = made.truth.observation.double().view(3, STATE_DRAWS, 4)[..., 3].mean(1)
    squared = (mean - made.truth.value).square().mean() - made.truth.squared_error
    assert abs(found - float(squared.clamp(min=0).sqrt())) < 1e-9
    assert float(mean.abs().min()) > 1.5
