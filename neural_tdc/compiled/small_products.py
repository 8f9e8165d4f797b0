"""Batched products of small matrices in compiled programs, without a library's call for each.

A library that takes the products of a batch one after another needs longer for a call than for the
arithmetic of some thousand numbers. Here a tile of the result stays in the processor's registers
while the sum over the inner axis is taken, and the right matrix is read from the cache. The sum of
each number is taken in the order of the inner axis, so its bits do not depend on its place.
"""

import ctypes
import functools

import torch
from jaxtyping import Float
from torch import Tensor

from neural_tdc.compiled.kernels import Kernel
from neural_tdc.compiled.private_compiler import compiled_library

# Numbers of the right matrix up to which it stays in the cache nearest to a core.
MOST_NUMBERS = 2**12
_TYPES = {torch.float32: "float", torch.float64: "double"}
# Sizes, then the strides of both matrices.
_CONSTANTS = (
    *("COUNT", "ROWS", "INNER", "COLUMNS"),
    *("LEFT_COUNT", "LEFT_ROW", "LEFT_INNER"),
    *("RIGHT_COUNT", "RIGHT_INNER", "RIGHT_COLUMN"),
)


@torch.library.custom_op("neural_tdc::small_product", mutates_args=())
def small_product(left: Tensor, right: Tensor) -> Tensor:
    """Return the batched product [n, i, k] × [n, k, j] of matrices on the CPU, in any layout."""
    product = left.new_empty(len(left), left.shape[1], right.shape[2])
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3)(product_kernel(left, right).address)
    kernel(left.data_ptr(), right.data_ptr(), product.data_ptr())
    return product


@small_product.register_fake
def _(left: Tensor, right: Tensor) -> Tensor:
    return left.new_empty(len(left), left.shape[1], right.shape[2])


def can_be_multiplied(left: Tensor, right: Tensor) -> bool:
    """Return whether `small_product` multiplies these batches of matrices, and well."""
    return (
        left.device.type == "cpu"
        and left.dtype in _TYPES
        and right.shape[2] > 1
        and 0 < right[0].numel() <= MOST_NUMBERS
        and left[0].numel() > 0
    )


def product_kernel(
    left: Float[Tensor, "batch row inner"], right: Float[Tensor, "batch inner column"]
) -> Kernel:
    """Return the function that multiplies matrices of these shapes and layouts.

    It takes the addresses of left, right and product, of which the last is contiguous.
    """
    sizes = (*left.shape, right.shape[2])
    return _compiled_kernel(_TYPES[left.dtype], sizes, left.stride(), right.stride())


@functools.cache
def _compiled_kernel(
    number: str, sizes: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]
) -> Kernel:
    values = zip(_CONSTANTS, (*sizes, *left, *right), strict=True)
    constants = "\n".join(f"constexpr int64_t {name} = {value};" for name, value in values)
    source = _SOURCE.replace("NUMBER", number).replace("CONSTANTS", constants)
    return Kernel(compiled_library(source), "multiply")


_SOURCE = """
#include <cstdint>
#include <cstring>

// Each result is computed in the same way at every place: a product and a sum may be one operation.
#ifdef __clang__
#pragma clang fp contract(fast)
#else
#pragma GCC optimize("fp-contract=fast")
#endif

CONSTANTS
typedef NUMBER number;
// Of its own, since <algorithm> takes as long to compile as all the rest.
constexpr int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }
constexpr int64_t wide = 64 / sizeof(number);
constexpr int64_t lanes = COLUMNS > wide / 2 ? wide : wide / 2;
// Extensions that GCC and Clang share; memory need not be aligned.
typedef number Lanes __attribute__((vector_size(lanes * sizeof(number)), aligned(sizeof(number))));
constexpr int64_t vectors = (COLUMNS + lanes - 1) / lanes;
constexpr int64_t width = vectors * lanes;
constexpr bool packed = RIGHT_COLUMN != 1 || COLUMNS != width;
// Vectors and rows of a tile, so that its sums stay in the registers.
#ifdef __AVX512F__
constexpr int64_t registers = 16;
#else
// A vector of 64 bytes takes two of the sixteen.
constexpr int64_t registers = 6;
#endif
constexpr int64_t across = smaller(vectors, 4);
constexpr int64_t down = smaller(ROWS, registers / across);

template <int64_t tall, int64_t broad>
static inline __attribute__((always_inline)) void tile(
    const number* __restrict left, const number* __restrict right, number* __restrict out,
    int64_t column) {
    constexpr int64_t step = packed ? width : RIGHT_INNER;
    Lanes sum[tall][broad] = {};
    for (int64_t k = 0; k < INNER; ++k) {
        Lanes row[broad];
        for (int64_t v = 0; v < broad; ++v)
            row[v] = *(const Lanes*)(right + k * step + v * lanes);
        for (int64_t r = 0; r < tall; ++r) {
            const number factor = left[r * LEFT_ROW + k * LEFT_INNER];
            for (int64_t v = 0; v < broad; ++v) sum[r][v] += factor * row[v];
        }
    }
    for (int64_t r = 0; r < tall; ++r)
        for (int64_t v = 0; v < broad; ++v) {
            const int64_t begin = column + v * lanes;
            if (begin + lanes <= COLUMNS)
                *(Lanes*)(out + r * COLUMNS + begin) = sum[r][v];
            else
                std::memcpy(out + r * COLUMNS + begin, &sum[r][v],
                            (COLUMNS - begin) * sizeof(number));
        }
}

template <int64_t broad>
static inline __attribute__((always_inline)) void panel(
    const number* __restrict left, const number* __restrict right, number* __restrict out,
    int64_t column) {
    int64_t r = 0;
    for (; r + down <= ROWS; r += down)
        tile<down, broad>(left + r * LEFT_ROW, right, out + r * COLUMNS, column);
    if constexpr (ROWS % down)
        tile<ROWS % down, broad>(left + r * LEFT_ROW, right, out + r * COLUMNS, column);
}

static thread_local number pack[packed ? INNER * width : 1];

extern "C" void multiply(const number* __restrict left, const number* __restrict right,
                         number* __restrict out) {
    for (int64_t n = 0; n < COUNT; ++n) {
        const number* from = right;
        if constexpr (packed) {
            for (int64_t k = 0; k < INNER; ++k)
                for (int64_t j = 0; j < COLUMNS; ++j)
                    pack[k * width + j] = right[k * RIGHT_INNER + j * RIGHT_COLUMN];
            from = pack;
        }
        int64_t v = 0;
        for (; v + across <= vectors; v += across)
            panel<across>(left, from + v * lanes, out, v * lanes);
        if constexpr (vectors % across)
            panel<vectors % across>(left, from + v * lanes, out, v * lanes);
        left += LEFT_COUNT;
        right += RIGHT_COUNT;
        out += ROWS * COLUMNS;
    }
}
"""
