"""Codewords of labels: which channels are on for which label.

Up to nine labels have a channel each, which is the easiest thing to draw. For more, a channel a
label is wasteful, and its channels are nearly empty; there each label gets a binary word of 9 (to
15 labels), 13 (to 31), 15 (to 63), 20 (to 127) or 24 (to 255) channels, and a map is read back as
the nearest word. At a border, channels pass through the midpoint of two words, which in an
arbitrary code may be the word of a third label. So the words are separating: of any three words
there is a channel in which the first two agree and the third does not. Then every point between
two words is nearer to one of them than to any third word. Unlike a learned embedding, whose words
can drift together, the code is fixed and a function of the number of labels alone.
"""

from functools import cache

import numpy as np

ONE_HOT = 9
"""The most labels that have a channel each; words save nothing for 8 and 9, one for 7."""


@cache
def codewords(count: int) -> np.ndarray:
    """Codewords of background and `count` labels, the same on every machine.

    The code is linear: the nonzero words of a binary linear code that meet pairwise (an
    intersecting code) are separating together with zero. Its generator's columns are chosen
    greedily, each by the number of pairs of words that first meet in it. Models depend on the
    outcome, so it has no random part.

    Args:
        count: labels without background.

    Returns:
        Bits (count + 1, D), uint8, read-only; the first word, the background's, is all 0.

    Reference: Cohen and Lempel 1985, Linear intersecting codes, Discrete Mathematics 56.
    """
    found = np.eye(count + 1, count, -1) if count <= ONE_HOT else _intersecting_code(count)
    found = found.astype(np.uint8)
    found.setflags(write=False)
    return found


def channels(labels: tuple[int, ...]) -> int:
    """Number of label channels that a generator emits for these label values."""
    return codewords(len(labels)).shape[1]


def _intersecting_code(count: int) -> np.ndarray:
    messages = np.arange(1, 2 ** int(count).bit_length())
    # bits[w, c]: whether word w is on in a column c, for every column there could be
    # (float64, in which BLAS counts exactly and so alike everywhere)
    bits = (np.bitwise_count(messages[:, None] & messages[None, :]) % 2).astype(np.float64)
    apart = np.ones_like(bits)  # pairs of words that do not meet yet
    columns: list[int] = []
    while apart.any():
        met = ((apart @ bits) * bits).sum(axis=0)
        best = np.flatnonzero(met == met.max())
        # Among equals: of ten rules tried, none gives shorter codes (9, 13, 15, 20, 24); always
        # the first, or the last, gives 9, 13, 16, 21, 25.
        columns.append(best[2 * len(best) // 3])
        apart *= 1 - np.outer(bits[:, columns[-1]], bits[:, columns[-1]])
    chosen = bits[:, columns]
    # Where three labels meet, heavy words lose least to the background.
    heaviest = np.argsort(-chosen.sum(axis=1), kind="stable")[:count]
    return np.vstack([np.zeros(len(columns)), chosen[heaviest]])
