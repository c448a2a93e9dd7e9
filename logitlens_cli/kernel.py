"""A tile of logits reduced in one go, row by row while the row is in the first cache.

What ``reduction.Running.take`` does step by step with torch, compiled by numba: an optional extra
(``logitlens-cli[fast]``). Loading takes a third of a second, the first compilation some seconds;
after that the sums cost a twentieth of the product instead of a fifth (``make bench``).
"""

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

# ``reduction.LOG2_E``, rounded alike.
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
    nothing = x < F32(-126)  # times a forbidden logit it must be 0
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
    return F32(0) if nothing else p * float_of(I32(whole + F32(127)) << I32(23))


@numba.njit(fastmath=ANY_ORDER, nogil=True, cache=True)
def take(
    start, z, weights, others, targets,
    maximum, total, mean, cross, reverse, above, level, best, ids,
):  # fmt: skip
    """Reduce a tile ``z`` (layer, position, entry), which is overwritten.

    In: ``start`` the first entry's id; ``weights`` and ``others`` (reference, position, entry), q
    but for a factor and its logits; ``targets`` (layer, target, position) logits; ``maximum``
    (layer, position) of the tile.
    Out: (layer, position) ``total`` sum exp(z - maximum), ``mean`` of that times z; (layer,
    reference, position) ``cross`` sum of weights z, ``reverse`` of exp(z - maximum) others, which
    may be empty; (layer, target, position) ``above``, ``level`` counts; ``best``, ``ids`` (layer,
    position, k) merged.
    """
    layers, positions, entries = z.shape
    k = best.shape[2]
    for layer in range(layers):
        for position in range(positions):
            row = z[layer, position]
            least = best[layer, position, k - 1]
            if maximum[layer, position] > least:
                for i in range(entries):
                    if row[i] > least:
                        place = k - 1
                        while place > 0 and row[i] > best[layer, position, place - 1]:
                            best[layer, position, place] = best[layer, position, place - 1]
                            ids[layer, position, place] = ids[layer, position, place - 1]
                            place -= 1
                        best[layer, position, place] = row[i]
                        ids[layer, position, place] = start + i
                        least = best[layer, position, k - 1]
            for n in range(targets.shape[1]):
                target = targets[layer, n, position]
                higher = same = F32(0)
                for i in range(entries):
                    higher += F32(1) if row[i] > target else F32(0)
                    same += F32(1) if row[i] == target else F32(0)
                above[layer, n, position], level[layer, n, position] = higher, same
            for n in range(len(weights)):
                q = weights[n, position]
                dot = F32(0)
                for i in range(entries):
                    dot += row[i] * q[i]
                cross[layer, n, position] = dot
            shift = maximum[layer, position] * LOG2_E
            sum_e = sum_ez = F32(0)
            for i in range(entries):
                e = exp2(row[i] * LOG2_E - shift)
                sum_e += e
                sum_ez += e * row[i]
                row[i] = e
            total[layer, position], mean[layer, position] = sum_e, sum_ez
            for n in range(reverse.shape[1]):
                other = others[n, position]
                dot = F32(0)
                for i in range(entries):
                    dot += row[i] * other[i]
                reverse[layer, n, position] = dot
