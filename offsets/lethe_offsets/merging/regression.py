"""EUL's fusion of unlearning layers, "Unlearn What You Want to Forget" (arXiv 2310.20150)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RIDGE = 1e-4  # share of the mean diagonal added to each module's inner products: they are singular for few inputs


def regress(deltas: Sequence[Tensor], products: Sequence[Tensor]) -> Tensor:
    """The weight difference [out, in] that answers each module's own inputs most as that module does.

    deltas: the modules' weight differences, [out, in]. products: inner products ``X_i^T X_i`` [in, in] of the inputs
    that the layer had over each module's forget set. In closed form the minimum of::

        sum_i |X_i (D - D_i)^T|^2 + ridge |D - D_i|^2

    so where no inputs lie, the result is the mean. float32; computed in float64.
    """
    ridge = RIDGE * sum(float(product.diagonal().mean()) for product in products) / len(products)
    weighed = [product.double() + ridge * torch.eye(len(product), dtype=torch.float64) for product in products]
    right = sum(delta.double() @ product for delta, product in zip(deltas, weighed, strict=True))
    left = sum(weighed[1:], weighed[0])
    solved: Tensor = torch.linalg.solve(left, right, left=False)
    return solved.float()
