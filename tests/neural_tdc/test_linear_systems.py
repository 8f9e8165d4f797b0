"""Linear systems are solved rightly for any number of threads."""

import numpy as np
import pytest
import torch

from neural_tdc.linear_systems import linear_solution
from neural_tdc.rules.lstd import lstd_solution
from neural_tdc.stackelberg.best_responses import mspbe_response

F64 = torch.float64
ROWS = 160


@pytest.fixture
def raised_threads():
    """Raise the number of torch's threads, as a program does that lowered it for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def systems(*batch, rows=ROWS, columns=3):
    """Return well conditioned matrices, right sides, and NumPy's solutions."""
    source = torch.Generator().manual_seed(0)
    matrix = torch.randn(*batch, rows, rows, generator=source, dtype=F64)
    matrix += 3 * rows**0.5 * torch.eye(rows, dtype=F64)
    right = torch.randn(*batch, rows, columns, generator=source, dtype=F64)
    return matrix, right, torch.from_numpy(np.linalg.solve(matrix.numpy(), right.numpy()))


@pytest.mark.usefixtures("raised_threads")
@pytest.mark.parametrize("rows", [5, 128, 129, ROWS])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_systems_of_any_size_are_solved_after_the_threads_were_raised(batch, rows):
    matrix, right, expected = systems(*batch, rows=rows)
    found = linear_solution(matrix, right)
    assert found.shape == right.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("raised_threads")
@pytest.mark.parametrize("places", [(0, 0), (None, 0), (0, None), (1, 2)])
def test_large_systems_are_solved_under_vmap_along_any_dimension(places):
    matrix, right, _ = systems(2)
    given = [
        pair[0] if place is None else pair.movedim(0, place)
        for pair, place in zip((matrix, right), places)
    ]
    found = torch.vmap(linear_solution, in_dims=places)(*given)
    matrices, rights = (
        (pair[:1] if place is None else pair).numpy()
        for pair, place in zip((matrix, right), places)
    )
    expected = torch.from_numpy(np.linalg.solve(matrices, rights))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("raised_threads")
def test_the_lstd_heads_of_several_runs_are_those_of_numpy():
    matrix, right, _ = systems(2, columns=1)
    statistics = {"matrix": matrix, "vector": right[..., 0]}
    found = torch.vmap(lambda state: lstd_solution(state, 0.25))(statistics)
    expected = np.linalg.solve(matrix.numpy() + 0.25 * np.eye(ROWS), right.numpy())[..., 0]
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-12)


def test_an_operator_of_its_own_is_one_that_torch_can_trace():
    matrix, right, _ = systems(2)
    operator = torch.ops.neural_tdc.linear_solution.default
    kinds = ("test_schema", "test_faketensor")
    assert set(torch.library.opcheck(operator, (matrix, right), test_utils=kinds).values()) == {
        "SUCCESS"
    }


@pytest.mark.parametrize("rows", [3, ROWS])
def test_a_singular_system_is_not_finite_and_leaves_the_others_alone(rows):
    matrix = torch.eye(rows, dtype=F64).repeat(2, 1, 1)
    matrix[1] = 0
    found = linear_solution(matrix, torch.ones(2, rows, 1, dtype=F64))
    assert found[0].flatten().tolist() == [1] * rows
    assert not found[1].isfinite().all()


def derivatives_one_by_one(function, point):
    """Return the Jacobian of a function by one backward pass for each output."""
    point = point.clone().requires_grad_(True)
    found = function(point)
    rows = [torch.autograd.grad(each, point, retain_graph=True)[0] for each in found]
    return torch.stack(rows)


@pytest.mark.usefixtures("raised_threads")
@pytest.mark.parametrize("rows", [7, ROWS])
def test_jacobian_and_hessian_of_a_best_response_are_those_of_single_derivatives(rows):
    matrix, right, _ = systems(rows=rows, columns=1)
    moves, _, _ = systems(2, rows=rows)
    identity, point = torch.eye(rows, dtype=F64), torch.tensor([0.1, -0.2], dtype=F64)

    def head(weight):
        system = matrix + torch.einsum("i,ijk->jk", weight, moves)
        return mspbe_response(system, identity, right[:, 0], 0.0)

    found = torch.func.jacrev(head)(point)
    torch.testing.assert_close(found, derivatives_one_by_one(head, point), rtol=1e-9, atol=1e-12)

    def slope(weight):
        return torch.func.jacrev(lambda moved: head(moved).square().sum())(weight)

    second = torch.func.jacrev(slope)(point)
    by_differences = torch.stack(
        [(slope(point + step) - slope(point - step)) / 2e-4 for step in 1e-4 * torch.eye(2)]
    )
    torch.testing.assert_close(second, by_differences, rtol=1e-5, atol=1e-9)
