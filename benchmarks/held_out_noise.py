"""How large a measured RMSPBE is if the true one is 0: python -m benchmarks.held_out_noise.

The features are those of an untrained network. The head is the LSTD solution on one long stream, so
its projected Bellman error there is 0. Parts of the stream then serve as held-out transitions. Each
row of the table is for one number of transitions. It has the plug-in estimate √(bᵀC⁺b) and the
estimate without bias, as roots of their mean squares over the parts (negative if the mean is
negative), the share of parts whose square is negative, the floor, and the share of parts above the
floor.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.command_line import CommandLine, whole_number
from envs.control.collection import held_out
from envs.control.problems import control_problem
from envs.control.standardisation import standardisation
from neural_tdc.metrics.projected_error import projected_floor, projected_noise, update_covariance
from neural_tdc.metrics.samples import Sample, in_rows, sampled_moments
from neural_tdc.metrics.value_errors import (
    expected_update,
    solve_symmetric,
    spectrum,
    td_fixed_point,
)
from neural_tdc.networks.bodies import initial_bodies, mlp
from neural_tdc.networks.feature_map import feature_map
from neural_tdc.types import Transition, mapped


class Row(NamedTuple):
    """A row of the table."""

    transitions: int
    plug_in: float
    without_bias: float
    negative: float
    floor: float
    above: float


def signed_root(value: float) -> float:
    """Return √value, or −√−value of a negative one."""
    return math.copysign(math.sqrt(abs(value)), value)


def squares(sample: Sample, features: Tensor, head: Tensor) -> Tensor:
    """Return the squares of the plug-in, of the estimate without bias and of the floor."""
    moments = sampled_moments(sample, features)
    of, b = spectrum(moments.C), expected_update(moments, head)
    td_error = sample.reward + sample.discount * (features[1:] @ head) - features[:-1] @ head
    covariance = update_covariance(features[:-1], td_error, sample.ratio, sample.weight)
    plug_in = b @ solve_symmetric(of, b)
    noise = projected_noise(of, covariance)
    return torch.stack([plug_in, plug_in - noise, projected_floor(of, covariance).square()])


def noise_table(
    problem: str, behaviour: str | None, sizes: list[int], total: int, width: int
) -> list[Row]:
    """Return one row per number of transitions, from a stream of `total` transitions."""
    stream = held_out(control_problem(problem, None, behaviour), total, 0)
    shift, scale = standardisation(stream.observation)
    stream = mapped(
        stream._replace(
            observation=(stream.observation - shift) / scale,
            next_observation=(stream.next_observation - shift) / scale,
            first=None,
        ),
        torch.Tensor.double,
    )
    shape = tuple(stream.observation.shape[1:])
    module, bodies = initial_bodies(lambda shape: mlp(shape, width), shape, 0, 1)
    body = {name: tensor[0].double() for name, tensor in bodies.items()}
    features, whole = feature_map(module), in_rows(stream)
    head = td_fixed_point(sampled_moments(whole, features(body, whole.observation)))
    table = []
    for size in sizes:
        found = []
        for begin in range(0, total - size + 1, size):
            part = slice(begin, begin + size)
            rows = in_rows(Transition(*(leaf[part] for leaf in stream[:5])))
            found.append(squares(rows, features(body, rows.observation), head))
        plug_in, square, floor = torch.stack(found).T
        roots = [signed_root(float(each.mean())) for each in (plug_in, square, floor)]
        shares = [float(each.double().mean()) for each in (square < 0, square > floor)]
        table.append(Row(size, roots[0], roots[1], shares[0], roots[2], shares[1]))
    return table


def main() -> None:
    """Print the table."""
    parser, number = CommandLine("held_out_noise", __doc__), whole_number()
    parser.add_argument(
        "--problem",
        nargs="+",
        default=["CartPole-v1", "MountainCar-v0"],
        help="names of Gymnasium problems",
    )
    parser.add_argument(
        "--behaviour", help="name of the policy that acts; without it the evaluated policy acts"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=number,
        default=[1_000, 5_000, 20_000],
        help="numbers of held-out transitions",
    )
    parser.add_argument(
        "--total", type=number, default=400_000, help="transitions of the whole stream"
    )
    parser.add_argument("--features", type=number, default=16, help="features of the network")
    given = parser.parse_args()
    if max(given.sizes) > given.total:
        parser.error(f"--sizes {max(given.sizes)} is more than --total {given.total}")
    for problem in given.problem:
        try:
            control_problem(problem, None, given.behaviour)
        except ValueError as error:
            parser.error(f"--problem {problem}: {error}")
    print("| problem | transitions | plug-in | without bias | negative | floor | above |")
    print("|---|---|---|---|---|---|---|")
    for problem in given.problem:
        for row in noise_table(problem, given.behaviour, given.sizes, given.total, given.features):
            print(
                f"| {problem} | {row.transitions:,} | {row.plug_in:.2f} | {row.without_bias:.2f} | "
                f"{row.negative:.0%} | {row.floor:.2f} | {row.above:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
