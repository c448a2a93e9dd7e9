"""A tile of logits reduced in one go, row by row while the row is in the first cache.

What ``reduction.reduce_tile`` does step by step with torch, compiled by numba: an optional extra
(``logitlens-cli[fast]``). Loading takes a third of a second, the first compilation some seconds;
after that the sums cost a twentieth of the product instead of a fifth (``make bench``).
"""

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

# ``tile.LOG2_E``, rounded alike.
LOG2_E = np.float32(np.log2(np.e))
F32, I32 = np.float32, np.int32
# Sums may be taken in any order, so that they become vectors; NaN and infinity stay what they are.
ANY_ORDER = {"reassoc", "contract", "nsz", "arcp"}


@intrinsic
def float_of(_context, _bits):
    """The float32 of 32 bits."""

    def generate(_context, builder, _signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.float32(numba.int32), generate


@numba.njit(fastmath=ANY_ORDER, inline="always")
def exp2(x):
    """2 ** x for x <= 0, to the last bit but one: a polynomial between whole powers.

    Coefficients: minimax on [-1/2, 1/2], as in Cephes' exp2f.
    """
    vanishes = x < F32(-126)  # times a forbidden logit it must be 0
    x = max(x, F32(-126))
    whole = np.floor(x + F32(0.5))
    f = x - whole
    p = F32(1.535336188319500e-4)
    p = p * f + F32(1.339887440266574e-3)
    p = p * f + F32(9.618437357674640e-3)
    p = p * f + F32(5.550332471162809e-2)
    p = p * f + F32(2.402264791363012e-1)
    p = p * f + F32(6.931472028550421e-1)
    p = p * f + F32(1)
    return F32(0) if vanishes else p * float_of(I32(whole + F32(127)) << I32(23))


@numba.njit(fastmath=ANY_ORDER, inline="always")
def insert_top_k(row, first_id, best, ids):
    """Merge a row (entry,) into the top k so far, ``best`` and ``ids`` (k,), best first."""
    k = len(best)
    least = best[k - 1]
    for i in range(len(row)):
        if row[i] > least:
            rank = k - 1
            while rank > 0 and row[i] > best[rank - 1]:
                best[rank] = best[rank - 1]
                ids[rank] = ids[rank - 1]
                rank -= 1
            best[rank] = row[i]
            ids[rank] = first_id + i
            least = best[k - 1]


@numba.njit(fastmath=ANY_ORDER, inline="always")
def count_above(row, target):
    """How many entries of a row (entry,) are larger than a logit, and how many equal it."""
    higher = equal = F32(0)
    for i in range(len(row)):
        higher += F32(1) if row[i] > target else F32(0)
        equal += F32(1) if row[i] == target else F32(0)
    return higher, equal


@numba.njit(fastmath=ANY_ORDER, inline="always")
def dot(a, b):
    """The sum of products of two rows (entry,)."""
    total = F32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@numba.njit(fastmath=ANY_ORDER, inline="always")
def exponentiate(row, maximum):
    """Replace a row (entry,) by exp(row - maximum); sums of that, and of that times the row."""
    shift = maximum * LOG2_E
    sum_e = sum_ez = F32(0)
    for i in range(len(row)):
        e = exp2(row[i] * LOG2_E - shift)
        sum_e += e
        sum_ez += e * row[i]
        row[i] = e
    return sum_e, sum_ez


@numba.njit(fastmath=ANY_ORDER, nogil=True, cache=True)
def reduce_rows(
    first_id, z, weights, reference_logits, targets,
    maximum, total, mean, cross, reverse, above, ties, best, ids,
):  # fmt: skip
    """Reduce a tile of logits ``z`` (layer, position, entry), which is overwritten.

    In: ``reduction.TileInput``, then what it fills: ``reduction.TileSums``, whose maximum is there
    already.
    """
    layers, positions, _ = z.shape
    k = best.shape[2]
    for layer in range(layers):
        for position in range(positions):
            row = z[layer, position]
            if maximum[layer, position] > best[layer, position, k - 1]:
                insert_top_k(row, first_id, best[layer, position], ids[layer, position])
            for n in range(targets.shape[1]):
                above[layer, n, position], ties[layer, n, position] = count_above(
                    row, targets[layer, n, position]
                )
            for n in range(len(weights)):
                cross[layer, n, position] = dot(row, weights[n, position])
            total[layer, position], mean[layer, position] = exponentiate(
                row, maximum[layer, position]
            )
            for n in range(reverse.shape[1]):
                reverse[layer, n, position] = dot(row, reference_logits[n, position])
