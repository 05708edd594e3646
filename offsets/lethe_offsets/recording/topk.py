"""The most probable tokens at some positions, and whole rows of logits rebuilt from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

# Below this share of the mass nothing is known: float32 log-probabilities don't add up to 1 any closer.
MIN_TAIL = 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """n positions.

    ids [n, k], int32, and logprobs [n, k], float32, nats: the most probable tokens, in falling order.
    token_logprobs [n], float32: of the token that stands there, which need not be one of them.
    """

    ids: Tensor
    logprobs: Tensor
    token_logprobs: Tensor

    @classmethod
    def cat(cls, parts: Sequence[TopK]) -> Self:
        return cls(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.logprobs for part in parts]),
            torch.cat([part.token_logprobs for part in parts]),
        )

    def __getitem__(self, rows: slice | Tensor) -> TopK:
        return TopK(self.ids[rows], self.logprobs[rows], self.token_logprobs[rows])

    def logits(self, tokens: Tensor, width: int) -> Tensor:
        """Log-probabilities over a vocabulary of ``width``, float32, shape [n, width].

        tokens [n]: the tokens that stand there. What the recorded ones leave of the mass, the tail, goes in equal parts
        to all the others. Measured: in proportion to the small model's probabilities, what is trained ends up farther
        from training on the whole logits.
        """
        tokens = tokens.to(self.ids.device)[:, None]
        outside = (self.ids != tokens).all(dim=-1)
        known = self.logprobs.double().exp().sum(dim=-1) + outside * self.token_logprobs.double().exp()
        others = (width - self.ids.shape[-1] - outside.long()).clamp_min(1)
        tail = ((1.0 - known).clamp_min(MIN_TAIL) / others).log().float()
        ids = torch.cat([self.ids.long(), tokens], dim=-1)
        values = torch.cat([self.logprobs, self.token_logprobs[:, None]], dim=-1)
        return tail[:, None].expand(-1, width).scatter(-1, ids, values)
