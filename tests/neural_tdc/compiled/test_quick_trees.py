"""Trees are taken apart and put together as torch.utils._pytree does it."""

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from neural_tdc.compiled.quick_trees import leaves_of, like_tree


class Pair(NamedTuple):
    one: object
    other: object


TREES = {
    "named": Pair({"b": torch.ones(2), "a": torch.zeros(3)}, (torch.ones(1), [torch.ones(4), ()])),
    "plain values": Pair({"none": None, "number": 3.0}, {}),
    "registered": Pair(OrderedDict(b=torch.ones(2), a=[torch.ones(1)]), torch.ones(5)),
    "one": torch.ones(3),
}


@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_as_torch_does_it(tree):
    leaves, structure = tree_flatten(tree)
    assert list(map(id, leaves_of(tree))) == list(map(id, leaves))
    new = [object() for _ in leaves]
    built = like_tree(tree, iter(new))
    assert built == tree_unflatten(new, structure)
    assert type(built) is (type(tree) if not isinstance(tree, torch.Tensor) else object)
