"""Recordings of models at hand, without a server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lethe_offsets.digests import tokenizer_digest
from lethe_offsets.recording.data import merged
from lethe_offsets.recording.file import Header, Recording, answer_places, write_recording
from lethe_offsets.recording.topk import TopK
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import model_logits, pad


@torch.inference_mode()
def answer_logits(model: PreTrainedModel, example: Example) -> Tensor:
    """The model's logits at the example's predicted tokens, [n, vocab]."""
    ids, mask, predicted = pad([example])
    return model_logits(model)(ids, mask, predicted).float()


def top_k_of(logits: Tensor, example: Example, top_k: int) -> TopK:
    """What a server would have said about these rows."""
    logprobs = logits.log_softmax(dim=-1)
    tokens = torch.tensor(example.ids)[answer_places(example)]
    best = logprobs.topk(top_k, dim=-1)
    return TopK(best.indices.int(), best.values, logprobs.gather(-1, tokens[:, None])[:, 0])


def record_model(
    model: PreTrainedModel, examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, top_k: int, out: Path
) -> Recording:
    """What ``lethe record`` writes, computed here."""
    header = Header(model="local", tokenizer_digest=tokenizer_digest(tokenizer), top_k=top_k)
    parts = {
        header.key(e.ids): (answer_places(e), top_k_of(answer_logits(model, e), e, top_k)) for e in merged(examples)
    }
    write_recording(out, header, parts)
    return Recording.open(out)
