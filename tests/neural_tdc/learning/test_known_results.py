"""What the field knows of these rules: where they converge, and where they do not."""

import pytest
import torch

from envs.finite.finite_mdp import chain
from envs.finite.standard_problems import problem
from neural_tdc.learning.learner import divergence_limit, learn
from neural_tdc.learning.preparation import base_steps, prepare
from neural_tdc.learning.sampling import (
    IidSampling,
    MarkovSampling,
)
from neural_tdc.learning.schedules import measured_steps, schedule
from neural_tdc.metrics.evaluators import chain_evaluator
from neural_tdc.rules.registry import RULES
from tests.neural_tdc.learning.populations import F64, experience

IID = IidSampling(16)


def measured(mdp, rule, sizes, steps, *, runs=2, every=100, sampling=IID, scheduled="constant"):
    """Learn on the given features of a chain and return all measurements."""
    algorithm, state = prepare(rule, None, mdp.features, runs=runs, seed=0, head=mdp.initial_head)
    return list(
        learn(
            algorithm,
            state,
            experience(mdp, runs, mdp.features),
            base_steps(algorithm.rule, sizes, runs, mdp.features),
            schedule(scheduled),
            sampling,
            chain_evaluator(chain(mdp), mdp.features, algorithm.features, algorithm.rule),
            steps=steps,
            measured=measured_steps(steps, every),
            limit=divergence_limit(state.parameters),
        )
    )


def test_td_diverges_on_bairds_star():
    first, *_, last = measured(problem("baird"), RULES["td"], (0.0, 0.15, 0.0), 150)
    error = "error/rmspbe"
    assert float(first.values[error].max()) < 10
    assert bool((last.values[error] > 100 * first.values[error]).all())


@pytest.mark.parametrize(
    ("rule", "head_step", "auxiliary_step"),
    [("tdc", 0.05, 0.2), ("gtd2", 0.1, 0.2), ("tdrc", 0.1, 0.1)],
)
def test_gradient_rules_converge_on_bairds_star(rule, head_step, auxiliary_step):
    sizes = (0.0, head_step, auxiliary_step)
    first, *_, last = measured(problem("baird"), RULES[rule], sizes, 150)
    error = "error/rmspbe"
    assert bool((last.values[error] < 0.05 * first.values[error]).all())
    assert not last.diverged.any()


def test_a_step_size_that_is_too_large_is_counted_as_divergence_on_bairds_star():
    first, *_, last = measured(problem("baird"), RULES["td"], (0.0, 1.0, 0.0), 100, every=99)
    assert not first.diverged.any()
    assert bool(last.diverged.all())
    assert bool(last.values["error/rmspbe"].isnan().all())


def test_td_finds_its_fixed_point_and_v_trace_another_one():
    mdp = problem("random-walk-tabular")
    c = chain(mdp)
    # E[min(1, ρ)δφ] = 0 with min(1, ρ)·b = min(b, π), and one feature a state.
    clipped = torch.minimum(mdp.behaviour, mdp.target)
    going = torch.einsum("sa,sat->st", clipped, mdp.transition)
    paid = (clipped * mdp.termination * mdp.terminal_reward).sum(1)
    v_trace = torch.linalg.solve(clipped.sum(1).diag() - going, paid)
    td = c.td_fixed_point(mdp.features)
    assert float((v_trace - td).norm()) > 0.4
    for name, mine, other in (("td", td, v_trace), ("vtrace", v_trace, td)):
        *_, last = measured(
            mdp,
            RULES[name],
            (0.0, 4.0, 0.0),
            200,
            runs=4,
            sampling=IidSampling(32),
            scheduled="polynomial:0.5",
        )
        # The mean over the runs, since each one's own noise is not what is asked.
        head = last.state.parameters.head.mean(0)
        assert float((head - mine).norm()) < 0.15
        assert float((head - other).norm()) > 0.3


def test_least_squares_td_equals_its_closed_form_on_what_was_seen():
    mdp = problem("random-walk-dependent")
    steps, runs = 150, 2
    rule = RULES["frozen+lstd"].with_settings(lstd_window=10**6, lstd_epsilon=1e-4)
    *_, last = measured(
        mdp, rule, (0.0, 0.3, 0.0), steps, runs=runs, every=steps, sampling=MarkovSampling()
    )
    seen = experience(mdp, runs, mdp.features).transitions
    for run in range(runs):
        phi = mdp.features[seen.observation[run, :steps]]
        phi_next = mdp.features[seen.next_observation[run, :steps]]
        discount, ratio = seen.discount[run, :steps, None], seen.ratio[run, :steps, None]
        A = (ratio * phi).T @ (phi - discount * phi_next) / steps + 1e-4 * torch.eye(3, dtype=F64)
        b = (ratio * phi).T @ seen.reward[run, :steps] / steps
        expected = torch.linalg.solve(A, b)
        assert torch.allclose(last.state.parameters.head[run], expected, rtol=1e-9)
