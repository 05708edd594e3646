"""Matrices as products of two thin ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lethe_offsets.adapter import LoraPair


def fold(pair: LoraPair, weight: float = 1.0) -> LoraPair:
    """``weight * pair`` with a scaling of 1: half of the factor goes into either side, float32."""
    factor = weight * pair.scaling
    side = math.sqrt(abs(factor))
    return LoraPair(pair.a.float() * math.copysign(side, factor), pair.b.float() * side, 1.0)


def side_by_side(pairs: Sequence[LoraPair]) -> LoraPair:
    """The sum of folded pairs, exactly: their ranks one after another."""
    return LoraPair(torch.cat([pair.a for pair in pairs]), torch.cat([pair.b for pair in pairs], dim=1), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """The singular value decomposition of a matrix [out, in]: left [out, n], values, falling, right [n, in].

    The values may go on after the n whose vectors are held.
    """

    left: Tensor
    values: Tensor
    right: Tensor

    @classmethod
    def of_matrix(cls, matrix: Tensor) -> Factors:
        """Of any matrix."""
        return cls(*torch.linalg.svd(matrix, full_matrices=False))

    @classmethod
    def of_pair(cls, pair: LoraPair) -> Factors:
        """Of a folded pair's product, without ever making the product."""
        outer, of_b = torch.linalg.qr(pair.b)
        inner, of_a = torch.linalg.qr(pair.a.T)
        left, values, right = torch.linalg.svd(of_b @ of_a.T)
        return cls(outer @ left, values, right @ inner.T)

    def cut(self, rank: int) -> Factors:
        """With ``rank`` of the vectors, and all values."""
        return Factors(self.left[:, :rank].clone(), self.values, self.right[:rank].clone())

    def pair(self, rank: int) -> LoraPair:
        """The nearest matrix of this rank or less (Eckart and Young).

        The root of each singular value goes to either side: halves of like size lose least in bfloat16.
        """
        roots = self.values[:rank].sqrt()
        return LoraPair(roots[:, None] * self.right[:rank], self.left[:, :rank] * roots, 1.0)

    def between(self, first: int, last: int) -> Tensor:
        """The part [out, in] of the matrix that lies in singular values ``first`` to ``last``, the last left out."""
        return (self.left[:, first:last] * self.values[first:last]) @ self.right[first:last]
