"""Projections give the nearest point of their set, and leave points of the set alone."""

import math

import pytest
import torch
from torch.utils._pytree import tree_leaves

from neural_tdc.learning.projections import project_on_ball, project_on_box, projection

F64 = torch.float64


def tree(seed, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    return {
        "weight": scale * torch.randn(3, 4, generator=g, dtype=F64),
        "bias": scale * torch.randn(2, generator=g, dtype=F64),
        "scale": scale * torch.randn((), generator=g, dtype=F64),
    }


def vector(tensors):
    return torch.cat([leaf.flatten() for leaf in tree_leaves(tensors)])


def test_a_ball_shrinks_all_leaves_as_one_vector():
    got = project_on_ball({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}, 1.0)
    assert float(got["a"]) == pytest.approx(0.6)
    assert float(got["b"]) == pytest.approx(0.8)


def test_a_box_clips_every_component_by_itself():
    got = project_on_box({"a": torch.tensor([-3.0, 0.5]), "b": torch.tensor([[2.5]])}, 2.0)
    assert got["a"].tolist() == [-2.0, 0.5]
    assert got["b"].tolist() == [[2.0]]


@pytest.mark.parametrize("name", ["none", "box:1000", "ball:1000"])
def test_a_point_of_the_set_keeps_its_bits(name):
    point = tree(0)
    assert torch.equal(vector(projection(name)(point)), vector(point))


@pytest.mark.parametrize("name", ["box:0.3", "ball:0.7"])
def test_the_projection_is_the_nearest_point_of_the_set(name):
    project = projection(name)
    point = tree(1, scale=2.0)
    nearest = project(point)
    distance = (vector(nearest) - vector(point)).norm()
    assert distance > 1
    assert torch.allclose(vector(project(nearest)), vector(nearest), rtol=1e-15)
    g = torch.Generator().manual_seed(2)
    for _ in range(200):
        # Points of the set near the candidate and far from it.
        other = vector(nearest) + torch.rand(1, generator=g, dtype=F64) * torch.randn(
            len(vector(nearest)), generator=g, dtype=F64
        )
        if name.startswith("box"):
            other = other.clamp(-0.3, 0.3)
        else:
            other = other * min(1.0, 0.7 / float(other.norm()))
        assert (other - vector(point)).norm() >= distance - 1e-12


def test_a_ball_puts_a_point_outside_on_its_surface():
    assert float(vector(projection("ball:0.7")(tree(3, 5.0))).norm()) == pytest.approx(0.7)


def test_a_ball_does_not_disturb_the_point_zero():
    assert vector(projection("ball:0.1")({"a": torch.zeros(3, 2)})).tolist() == [0.0] * 6


@pytest.mark.parametrize("name", ["none", "box:1", "ball:1"])
def test_a_tree_without_tensors_is_left_as_it_is(name):
    assert projection(name)({}) == {}


def test_under_vmap_every_run_is_projected_by_itself():
    runs = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, -2.0]], dtype=F64)
    got = torch.vmap(projection("ball:1"))({"w": runs})["w"]
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, -1.0]], dtype=F64)
    assert torch.allclose(got, expected, rtol=1e-15)


@pytest.mark.parametrize("name", ["box:1", "ball:1"])
def test_a_projection_does_not_hide_a_parameter_that_is_not_a_number(name):
    got = vector(projection(name)({"w": torch.tensor([math.nan, 0.5])}))
    assert bool(got.isnan().any())


@pytest.mark.parametrize(
    "name", ["sphere:1", "ball", "ball:", "box:0", "ball:-1", "box:inf", "ball:nan", "box:x", ""]
)
def test_a_name_that_is_no_constraint_is_refused_in_one_line_that_names_it(name):
    with pytest.raises(ValueError, match=r"^[^\n]*$") as refusal:
        projection(name)
    assert repr(name) in str(refusal.value)
    assert "ball:R" in str(refusal.value)
