"""Small linear systems of many runs in compiled programs, without LAPACK.

LAPACK solves one system after another, and a call of it keeps an update from being kernels alone,
which a loop in C++ could repeat (`kernel_loop`). Here sixteen systems are solved side by side, one
in each lane of the processor's vectors: Gaussian elimination with partial pivoting, as LAPACK does
it, so that the solutions differ by rounding only. No lane sees another one.
"""

import ctypes
import functools
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.compiled.kernels import Kernel
from neural_tdc.compiled.private_compiler import compiled_library

LANES = 16
# Rows up to which systems are solved here, fewer than fill the lanes, and more: LAPACK is faster
# beyond. Sixteen of the largest in double precision take half a megabyte, which the cache holds.
MOST_ROWS_OF_FEW, MOST_ROWS = 32, 64
_TYPES = {torch.float32: "float", torch.float64: "double"}


@torch.library.custom_op("neural_tdc::small_solution", mutates_args=())
def small_solution(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve linear systems on the CPU; not finite where a matrix is singular.

    matrix: [system, row, row]; right: [system, row, 1], as `can_be_solved` has them
    """
    matrix, right = matrix.contiguous(), right.contiguous()
    solution = torch.empty_like(right)
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(solution_kernel(matrix, right).address)
    kernel(matrix.data_ptr(), right.data_ptr(), solution.data_ptr())
    return solution


@small_solution.register_fake
def _(matrix: Tensor, right: Tensor) -> Tensor:
    return right.new_empty(right.shape)


def can_be_solved(matrix: Tensor, right: Tensor, left: bool) -> bool:
    """Return whether `small_solution` solves these systems: `left` for matrix · x = right."""
    shapes = matrix.dim() == 3 and right.shape == (*matrix.shape[:2], 1)
    most = MOST_ROWS if len(matrix) >= LANES else MOST_ROWS_OF_FEW
    small = shapes and matrix.numel() > 0 and matrix.shape[1] <= most
    return left and small and matrix.device.type == "cpu" and matrix.dtype in _TYPES


def solved_side_by_side(
    matrix: Tensor, right: Tensor, *, left: bool = True, check_errors: bool = False
) -> Any:
    """Return what `linalg.solve_ex` does, or NotImplemented for large systems.

    What it gives with the solution (factors, pivots, an error code) is not computed.
    """
    if check_errors or not can_be_solved(matrix, right, left):
        return NotImplemented
    code = matrix.new_zeros(len(matrix), dtype=torch.int32)
    pivots = code[:, None].expand(matrix.shape[:2])
    return small_solution(matrix, right), matrix, pivots, code


def solution_kernel(
    matrix: Float[Tensor, "batch row row"], right: Float[Tensor, "batch row 1"]
) -> Kernel:
    """Return the function that solves systems of this shape.

    It takes the addresses of the matrices, the right sides and the solutions, all contiguous.
    Raises ValueError for another layout.
    """
    if not (matrix.is_contiguous() and right.is_contiguous()):
        raise ValueError("systems must be contiguous")
    return _compiled_kernel(_TYPES[matrix.dtype], *matrix.shape[:2])


@functools.cache
def _compiled_kernel(number: str, systems: int, rows: int) -> Kernel:
    source = _SOURCE.replace("NUMBER", number)
    for name, value in {"SYSTEMS": systems, "ROWS": rows, "LANES": LANES}.items():
        source = source.replace(name, str(value))
    return Kernel(compiled_library(source), "solve")


_SOURCE = """
#include <algorithm>
#include <cstdint>

constexpr int64_t systems = SYSTEMS, rows = ROWS, lanes = LANES;
typedef NUMBER number;
// A number of each of sixteen systems; an extension that GCC and Clang share.
typedef number Lanes __attribute__((vector_size(lanes * sizeof(number))));

// The last column is the right side.
static thread_local Lanes a[rows][rows + 1];

static void eliminate() {
    for (int64_t k = 0; k < rows; ++k) {
        Lanes largest = a[k][k] < 0 ? -a[k][k] : a[k][k];
        Lanes place = Lanes{} + number(k);
        for (int64_t r = k + 1; r < rows; ++r) {
            const Lanes size = a[r][k] < 0 ? -a[r][k] : a[r][k];
            const auto larger = size > largest;
            largest = larger ? size : largest;
            place = larger ? Lanes{} + number(r) : place;
        }
        bool moved = false;
        for (int64_t l = 0; l < lanes; ++l) moved |= place[l] != number(k);
        if (moved)
            for (int64_t c = k; c <= rows; ++c) {
                const Lanes upper = a[k][c];
                Lanes pivot = upper;
                for (int64_t r = k + 1; r < rows; ++r) {
                    const auto here = place == number(r);
                    pivot = here ? a[r][c] : pivot;
                    a[r][c] = here ? upper : a[r][c];
                }
                a[k][c] = pivot;
            }
        const Lanes reciprocal = number(1) / a[k][k];
        for (int64_t r = k + 1; r < rows; ++r) {
            const Lanes factor = a[r][k] * reciprocal;
            for (int64_t c = k + 1; c <= rows; ++c) a[r][c] -= factor * a[k][c];
        }
    }
    // Back substitution; the solution takes the place of the right side.
    for (int64_t k = rows - 1; k >= 0; --k) {
        Lanes rest = a[k][rows];
        for (int64_t c = k + 1; c < rows; ++c) rest -= a[k][c] * a[c][rows];
        a[k][rows] = rest / a[k][k];
    }
}

extern "C" void solve(const number* matrix, const number* right, number* solution) {
    for (int64_t first = 0; first < systems; first += lanes) {
        for (int64_t l = 0; l < lanes; ++l) {
            // Lanes beyond the last system repeat it.
            const int64_t system = std::min(first + l, systems - 1);
            for (int64_t r = 0; r < rows; ++r) {
                for (int64_t c = 0; c < rows; ++c)
                    a[r][c][l] = matrix[(system * rows + r) * rows + c];
                a[r][rows][l] = right[system * rows + r];
            }
        }
        eliminate();
        for (int64_t l = 0; l < lanes && first + l < systems; ++l)
            for (int64_t r = 0; r < rows; ++r)
                solution[(first + l) * rows + r] = a[r][rows][l];
    }
}
"""
