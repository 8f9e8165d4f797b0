"""Linear systems of many runs at once, right for any number of threads.

On the CPU, torch 2.13 with MKL solves a batch of matrices with more than some 150 rows wrongly, or
fails, once `torch.set_num_threads` has raised the number of threads. `solve`, `inv` and `lu_solve`
are affected, and `vmap` of them, hence `jacrev` through a single `solve`; a single matrix alone,
Cholesky, QR, SVD and `eigh` are not.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Rows up to which a batch on the CPU is solved at once: the fault begins between 129 and 160.
_MOST_ROWS_OF_A_BATCH = 128


def linear_solution(
    matrix: Float[Tensor, "*batch row row"], right: Float[Tensor, "*batch row column"]
) -> Float[Tensor, "*batch row column"]:
    """Solve linear systems; not finite where a matrix is singular.

    Works under `torch.vmap` and in compiled programs. Large systems on the CPU have no derivative.
    """
    if matrix.device.type != "cpu" or matrix.shape[-1] <= _MOST_ROWS_OF_A_BATCH:
        # `solve_ex` leaves its error code on the device: the plain `solve` would wait for it.
        return torch.linalg.solve_ex(matrix, right)[0]
    return _one_after_another(matrix, right)


# An operator of its own, so that `vmap` and the compiler call it with the whole batch.
@torch.library.custom_op("neural_tdc::linear_solution", mutates_args=())
def _one_after_another(matrix: Tensor, right: Tensor) -> Tensor:
    pairs = zip(
        matrix.reshape(-1, *matrix.shape[-2:]), right.reshape(-1, *right.shape[-2:]), strict=True
    )
    solution = right.new_empty(right.shape)
    for place, (one, of_one) in zip(solution.view(-1, *right.shape[-2:]), pairs):
        place.copy_(torch.linalg.solve_ex(one, of_one)[0])
    return solution


@_one_after_another.register_fake
def _(matrix: Tensor, right: Tensor) -> Tensor:
    return right.new_empty(right.shape)


@_one_after_another.register_vmap
def _(
    info: Any, dimensions: tuple[int | None, int | None], matrix: Tensor, right: Tensor
) -> tuple[Tensor, int]:
    batches = [
        tensor.expand(info.batch_size, *tensor.shape) if place is None else tensor.movedim(place, 0)
        for tensor, place in zip((matrix, right), dimensions)
    ]
    return _one_after_another(*batches), 0
