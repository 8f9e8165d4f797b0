"""What distinguishes the runs of a population, their order, and which of them learn together."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from agents.dqn.objectives import QObjective
from agents.dqn.stacked_learner import MemberRates

# On the CPU runs learn in blocks, so that what one operation writes is still in a cache when the
# next one reads it; a block of fewer runs loses more by the start of operations than it gains.
BLOCK_BYTES, LEAST_BLOCK = 5 * 2**19, 16


class DQNMember(NamedTuple):
    """What distinguishes a run of a population.

    seed:       of its network, environment, exploration and draws
    objective:  what its updates descend
    rates:      of body, head and auxiliary head
    """

    seed: int
    objective: QObjective
    rates: MemberRates


def population_order(members: Sequence[DQNMember]) -> list[int]:
    """Return the order in which runs are fast: by objective, and by rates within one."""
    return sorted(range(len(members)), key=lambda i: (str(members[i].objective), members[i].rates))


def block_runs(network_bytes: int) -> int:
    """Return the most runs that learn in one block on the CPU."""
    return max(LEAST_BLOCK, BLOCK_BYTES // network_bytes)


def learning_blocks(members: Sequence[DQNMember], most: int) -> list[slice]:
    """Return the runs of each objective, in blocks of nearly the same size and at most `most`."""
    ends = [i for i in range(1, len(members)) if members[i].objective != members[i - 1].objective]
    found = []
    for begin, end in zip([0, *ends], [*ends, len(members)]):
        count = -(-(end - begin) // most)
        edges = [begin + (end - begin) * block // count for block in range(count + 1)]
        found += [slice(*pair) for pair in itertools.pairwise(edges)]
    return found
