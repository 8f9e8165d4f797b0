"""The two-direction landscape."""

import pytest
import torch
from torch import Tensor

from neural_tdc.randomness import generator
from neural_tdc.stackelberg.landscape import landscape, random_directions, surface
from neural_tdc.stackelberg.problems import reduced_objective, regression


def normal(*shape: int, name: str = "normal") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name, *shape), dtype=torch.float64)


def body() -> dict[str, Tensor]:
    return {"first": normal(3, 5), "second": normal(5, 4, name="second")}


def problem():
    return regression(
        lambda weights, inputs: torch.tanh(
            torch.tanh(inputs @ weights["first"]) @ weights["second"]
        ),
        normal(7, 3, name="inputs"),
        normal(7, name="target"),
        0.1,
    )


def test_directions_are_orthogonal_and_of_unit_or_of_the_bodys_length():
    first, second = random_directions(body(), generator(0, "directions"))
    inner = sum(float((first[key] * second[key]).sum()) for key in first)
    assert inner == pytest.approx(0, abs=1e-14)
    assert sum(float(leaf.square().sum()) for leaf in first.values()) == pytest.approx(1)
    longer, _ = random_directions(body(), generator(0, "directions"), relative=True)
    square = sum(float(leaf.square().sum()) for leaf in body().values())
    assert sum(float(leaf.square().sum()) for leaf in longer.values()) == pytest.approx(square)
    assert first["second"].shape == (5, 4)


def test_a_body_of_one_parameter_has_no_plane():
    with pytest.raises(ValueError, match="at least two parameters"):
        random_directions(torch.ones(1), generator(0, "directions"))


def test_a_surface_is_indexed_by_the_first_direction_and_then_by_the_second():
    coefficients = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
    centre = torch.tensor([10.0, 20.0], dtype=torch.float64)
    first, second = torch.eye(2, dtype=torch.float64)
    found = surface(lambda w: w[0] + 100 * w[1], centre, first, second, coefficients)
    assert found.tolist() == [
        [9 + 1900, 9 + 2000, 9 + 2200],
        [10 + 1900, 10 + 2000, 10 + 2200],
        [12 + 1900, 12 + 2000, 12 + 2200],
    ]


def test_the_three_surfaces_are_ordered_and_meet_where_they_must():
    first, second = random_directions(body(), generator(0, "directions"))
    coefficients = torch.linspace(-1, 1, 5, dtype=torch.float64)
    head = normal(4, name="head")
    found = landscape(problem(), body(), head, first, second, coefficients)
    assert found.joint.shape == (5, 5)
    # Φ is the lower envelope of f over all heads, and touches the frozen one at the centre
    assert bool((found.solved <= found.frozen + 1e-14).all())
    assert bool((found.solved < found.joint).all())
    torch.testing.assert_close(found.solved[2, 2], found.frozen[2, 2], rtol=0, atol=1e-14)
    assert float(found.solved[0, 4]) < float(found.frozen[0, 4]) - 1e-6


def test_each_surface_is_its_objective_at_the_moved_body():
    first, second = random_directions(body(), generator(0, "directions"))
    coefficients = torch.tensor([-0.5, 0.3, 1.0], dtype=torch.float64)
    head, made = normal(4, name="head"), problem()
    found = landscape(made, body(), head, first, second, coefficients)
    moved = {key: body()[key] - 0.5 * first[key] + 1.0 * second[key] for key in first}
    best = made.best_response(body())
    torch.testing.assert_close(found.joint[0, 2], made.objective(moved, head), rtol=0, atol=1e-13)
    torch.testing.assert_close(found.frozen[0, 2], made.objective(moved, best), rtol=0, atol=1e-13)
    torch.testing.assert_close(
        found.solved[0, 2], reduced_objective(made, moved), rtol=0, atol=1e-13
    )
