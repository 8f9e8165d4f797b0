"""Vector-Jacobian products without torch's compiler are those of `torch.func.vjp`, to the bit."""

import pytest
import torch

from neural_tdc import vector_jacobian
from neural_tdc.vector_jacobian import vjp

F64 = torch.float64


def function(body, vector):
    """Return two values of the tree's tensors; one of them is not read."""
    hidden = torch.tanh(body["first"] @ vector)
    return hidden * vector.sum(), (body["second"] * hidden[:2]).sum()


def inputs(runs):
    source = torch.Generator().manual_seed(runs)
    shapes = {"first": (4, 3), "second": (2,), "idle": (5,)}
    body = {
        name: torch.randn(runs, *shape, generator=source, dtype=F64)
        for name, shape in shapes.items()
    }
    return body, torch.randn(runs, 3, generator=source, dtype=F64)


@pytest.mark.parametrize("found", [True, False])
def test_products_equal_those_of_torch_for_many_runs_and_a_part_that_is_not_read(
    found, monkeypatch
):
    monkeypatch.setattr(vector_jacobian, "_FOUND", found)

    def products(of):
        def one(body, vector):
            value, pull_back = of(function, body, vector)[:2]
            return value, pull_back((torch.arange(4.0, dtype=F64), torch.tensor(0.5, dtype=F64)))

        return torch.utils._pytree.tree_leaves(torch.vmap(one)(*inputs(3)))

    pairs = list(zip(products(vjp), products(torch.func.vjp), strict=True))
    assert len(pairs) == 6
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_product_is_differentiated_once_more():
    x = torch.tensor([0.5, -2.0], dtype=F64)

    def slope(x):
        return vjp(lambda x: (x**3).sum(), x)[1](torch.ones((), dtype=F64))[0].sum()

    # (x³)'' = 6x
    assert torch.func.grad(slope)(x).tolist() == [3.0, -12.0]


@pytest.mark.parametrize("wrong", [torch.ones(3), (torch.ones(2),)])
def test_cotangents_of_another_form_are_refused(wrong):
    _, pull_back = vjp(torch.sin, torch.ones(2))
    with pytest.raises(ValueError, match="cotangents"):
        pull_back(wrong)
