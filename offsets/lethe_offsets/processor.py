"""The offset as a processor of transformers' ``generate``."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import LogitsProcessor

from lethe_offsets.caches import Caches
from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.stepping import offset_logits
from lethe_offsets.training.reference import ReferenceEnsemble

PADDING = -1  # stands for padding among token ids


class OffsetProcessor(LogitsProcessor):
    """Turns the large model's scores into log-probabilities of the unlearned model.

    It keeps the lanes' key-value caches and reads one new token a row, for any way of generating: greedy, sampling,
    beams, several answers to a prompt. With a mask it serves the prompts of that mask.

    The order is not the server's. What ``generate`` is told of penalties and bans (``repetition_penalty``,
    ``no_repeat_ngram_size``, ``bad_words_ids``, ``min_new_tokens``, ``suppress_tokens``) changes the large model's
    scores before the offset; the server's penalties come after it. Temperature, ``top_k``, ``top_p`` and ``min_p``
    come after it in both. Processors behind this one in the list come after it too, and see log-probabilities.
    """

    supports_continuous_batching = False

    def __init__(
        self, ensemble: ReferenceEnsemble, padding_id: int | None = None, attention_mask: Tensor | None = None
    ) -> None:
        """As ``Pair.processor``. padding_id: without a mask no row may begin with it."""
        self._ensemble, self._padding_id, self._mask = ensemble, padding_id, attention_mask
        self._prompts: Tensor | None = None  # [batch, length], that the mask belongs to
        self._caches = Caches([ensemble.plus, ensemble.minus], ensemble.large.device)
        self._rows: Tensor | None = None  # [rows, length], what the caches hold
        if attention_mask is not None and not (is_mask(attention_mask) and _is_left(attention_mask)):
            accepted = "[batch, length], each row zeros and then ones: tokenizer(..., padding_side='left')"
            raise InvalidInput("attention_mask", [*attention_mask.shape], accepted)

    @torch.no_grad()
    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Log-probabilities [rows, vocab], float32, of what follows input_ids [rows, length].

        Raises InvalidInput for rows that the mask doesn't fit and for scores or an offset that are not finite.
        """
        plus, minus = (logits[:, -1] for logits in self._read(input_ids, self._used(input_ids)))
        logits = offset_logits(self._ensemble, scores, plus, minus)
        # What is ruled out stays so, also where rules put a finite number or, with nothing left to share, NaN.
        out = logits.masked_fill(scores == -math.inf, -math.inf).log_softmax(-1)
        if out.isnan().any():
            raise InvalidInput("scores", "NaN", "finite logits of the large model and of both lanes")
        return out

    def _used(self, ids: Tensor) -> Tensor:
        """[rows, length], long: 1 at tokens, 0 at the padding before them."""
        if self._mask is None:
            return all_used(ids, self._padding_id)
        batch, length = self._mask.shape
        repeats, rest = divmod(len(ids), batch)  # beams and further answers repeat each prompt
        prompts = ids[:: repeats or 1, :length]
        known = prompts if self._prompts is None and ids.shape[1] == length else self._prompts
        if rest or not repeats or known is None or not torch.equal(prompts, known):
            accepted = f"the mask of these prompts, for {[*ids.shape]}; a processor with a mask is for these alone"
            raise InvalidInput("attention_mask", [batch, length], accepted)
        self._prompts = known
        used = self._mask.to(ids.device, torch.long).repeat_interleave(repeats, dim=0)
        return pad(used, (0, ids.shape[1] - length), value=1)

    def _read(self, ids: Tensor, used: Tensor) -> list[Tensor]:
        """Logits of both lanes, of what follows the last ids, [rows, 1, small vocab]."""
        rows = ids.masked_fill(used == 0, PADDING)
        held, self._rows = self._rows, None  # nothing is held until this step is whole: a person may interrupt it
        if self._follow(held, rows):
            ids, used = ids[:, -1:], used[:, -1:]
        else:
            self._caches.clear()
        logits = self._caches.step(ids, used, last=True)
        self._rows = rows
        return logits

    def _follow(self, held: Tensor | None, rows: Tensor) -> bool:
        """Whether all rows are held but for their last token; the caches then hold them in this order."""
        if held is None or held.shape[1] + 1 != rows.shape[1]:
            return False
        if torch.equal(held, rows[:, :-1]):
            return True
        same = (rows[:, None, :-1] == held).all(dim=-1)
        if not same.any(dim=1).all():
            return False
        self._caches.take(same.int().argmax(dim=1))
        return True


def all_used(ids: Tensor, padding_id: int | None) -> Tensor:
    """The mask of ids [rows, length] without padding. Raises InvalidInput where a row begins with it."""
    if padding_id is not None and (ids[:, :1] == padding_id).any():
        accepted = f"the tokenizer's attention_mask, as a row begins with its padding token, {padding_id}"
        raise InvalidInput("attention_mask", None, accepted)
    return torch.ones_like(ids)


def is_mask(mask: Tensor) -> bool:
    """Whether it is [rows, length] of zeros and ones."""
    return mask.dim() == 2 and mask.numel() > 0 and bool(((mask == 0) | (mask == 1)).all())


def _is_left(mask: Tensor) -> bool:
    """Whether each row is zeros and then ones, of which there is one at least."""
    return bool((mask[:, 1:] >= mask[:, :-1]).all() and (mask[:, -1] == 1).all())
