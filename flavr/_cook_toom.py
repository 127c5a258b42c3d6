"""Short convolutions with as few multiplications as possible (Cook-Toom, Winograd), derived exactly.

F(m, r) computes m neighbouring outputs of a convolution with r taps from n = m + r - 1 inputs with n products
instead of m r:

    outputs = A (G taps * B inputs),    A [m, n], G [n, r], B [n, n]

The products are those of the two polynomials at n points, the last of them infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.floating[Any]]
_Exact = list[list[Fraction]]

_POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-1, 2))
"""With 2 and -1/2, float32 rounding comes to half of what it is with 2 and -2 (three nested F(4, 3))."""

POINT_ONE = 1
"""The column of A that is all ones: what is added to this product is added to every output."""


@dataclass(frozen=True, slots=True)
class ShortConvolution:
    """The three matrices of F(m, r)."""

    outputs: Matrix  # A [m, n]
    taps: Matrix  # G [n, r]
    inputs: Matrix  # B [n, n]

    @property
    def products(self) -> int:
        return len(self.taps)


@cache
def short_convolution(m: int, r: int) -> ShortConvolution:
    """F(m, r), with small whole numbers in B and powers of the points in A."""
    n = m + r - 1
    points = _POINTS[: n - 1]
    if len(points) < n - 1:
        raise ValueError(f"F({m}, {r}) needs {n} points; {len(_POINTS) + 1} are known")
    interpolation = _inverse(_powers(points, n))
    inputs = [list(column) for column in zip(*interpolation, strict=True)]
    taps = _powers(points, r)
    for row in range(n):
        factor = math.lcm(*(value.denominator for value in inputs[row]))
        inputs[row] = [value * factor for value in inputs[row]]
        taps[row] = [value / factor for value in taps[row]]
    outputs = [list(column) for column in zip(*_powers(points, m), strict=True)]
    return ShortConvolution(_rounded(outputs), _rounded(taps), _rounded(inputs))


def _powers(points: tuple[Fraction, ...], count: int) -> _Exact:
    """Row per point: 1, p, p^2 ...; at infinity only the highest power counts."""
    finite = [[point**power for power in range(count)] for point in points]
    return [*finite, [Fraction(power == count - 1) for power in range(count)]]


def _inverse(matrix: _Exact) -> _Exact:
    n = len(matrix)
    rows = [[*row, *(Fraction(i == j) for j in range(n))] for i, row in enumerate(matrix)]
    for column in range(n):
        pivot = next(row for row in range(column, n) if rows[row][column])
        rows[column], rows[pivot] = rows[pivot], rows[column]
        divisor = rows[column][column]
        rows[column] = [value / divisor for value in rows[column]]
        for row in range(n):
            factor = rows[row][column]
            if row != column and factor:
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return [row[n:] for row in rows]


def _rounded(matrix: _Exact) -> Matrix:
    return np.array(matrix, np.float64)
