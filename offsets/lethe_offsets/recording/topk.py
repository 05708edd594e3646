"""The most probable tokens at some positions, and whole rows of logits rebuilt from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

# Below this share of the mass nothing is known: float32 log-probabilities don't add up to 1 any closer.
MIN_TAIL = 1e-7
NEVER = -1e4  # a logit whose probability is zero, and finite: zero times it is zero


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

    def logits(self, tokens: Tensor, small: Tensor, width: int) -> Tensor:
        """Log-probabilities over the whole vocabulary, float32, shape [n, width].

        tokens [n]: the tokens that stand there. small [n, small vocab]: a small model's logits at the same positions.
        What the recorded tokens leave of the mass, the tail, goes to the other tokens in proportion to the small
        model's probabilities.
        """
        tokens = tokens.to(self.ids.device)[:, None]
        outside = (self.ids != tokens).all(dim=-1)
        known = self.logprobs.double().exp().sum(dim=-1) + outside * self.token_logprobs.double().exp()
        tail = (1.0 - known).clamp_min(MIN_TAIL).log().float()[:, None]
        ids = torch.cat([self.ids.long(), tokens], dim=-1)
        others = F.pad(small.float(), (0, max(0, width - small.shape[-1])), value=NEVER)[:, :width]
        others = others.scatter(-1, ids, -torch.inf).log_softmax(dim=-1)  # NaN where no other is left
        return (tail + others).scatter(-1, ids, torch.cat([self.logprobs, self.token_logprobs[:, None]], dim=-1))
