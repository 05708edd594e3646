"""Guidance extraction: what the distributions before and after unlearning say together.

Source: "Unlearned but Not Forgotten: Data Extraction after Exact Unlearning in LLM" (arXiv 2505.24379). There the
guided distribution is ``log p_after + s (log p_before - log p_after)`` with s > 1; here w = s - 1, so that w = 0 is
the model before. The filter is that of its code: only tokens that the model before holds plausible.
"""

from __future__ import annotations

import torch
from torch import Tensor

FILTER = 5.0  # nats below the most probable token of the model before, as in the code of the paper


def guided_logits(before: Tensor, after: Tensor, w: float, within: float = FILTER) -> Tensor:
    """``log p_before + w (log p_before - log p_after)`` [..., vocab], float32, from logits of both.

    Tokens whose log p_before is more than ``within`` nats below the largest one are -inf.
    """
    log_before, log_after = before.float().log_softmax(-1), after.float().log_softmax(-1)
    plausible = log_before >= log_before.amax(-1, keepdim=True) - within
    return torch.where(plausible, log_before + w * (log_before - log_after), -torch.inf)
