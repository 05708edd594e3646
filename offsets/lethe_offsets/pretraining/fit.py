"""Training a new model on answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaForCausalLM

from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import pad
from lethe_offsets.training.progress import Report

# Few shapes: oneDNN makes a kernel for each, between whose pieces the heap ends up in pieces too. Measured on a CPU:
# 20 s of a core for 60 steps of 4.3M parameters instead of 25 to 28, in 1.4 GB instead of 2.5.
LENGTHS, ROWS = 8, 64
UNCOUNTED = -100  # no token's label


def fit(
    model: LlamaForCausalLM,
    batches: Sequence[Sequence[Example]],
    optimizers: Sequence[torch.optim.Optimizer],
    warmup: int,
    label: str,
    report: Report,
) -> None:
    """A step for each batch; the rate rises to the optimizers' own in ``warmup`` steps, then falls to zero (cosine)."""
    model.set_attn_implementation("eager")  # measured on a CPU: a third faster than sdpa for short sequences
    peaks, steps = [optimizer.param_groups[0]["lr"] for optimizer in optimizers], len(batches)
    for step, batch in enumerate(batches):
        rate = min(1.0, (step + 1) / warmup) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        loss = answer_loss(model, batch)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate
            optimizer.step()
        report(label, step + 1, steps, f"{loss.item():.3f}")
    model.set_attn_implementation("sdpa")


def together(examples: Sequence[Example], batch_tokens: int) -> list[list[Example]]:
    """Batches of neighbours: of examples sorted by length, so that padding is a few tokens in a hundred.

    batch_tokens: at most so many tokens in a batch of several, padding included.
    """
    found: list[list[Example]] = [[]]
    for example in examples:
        if (len(found[-1]) + 1) * len(example.ids) > batch_tokens and found[-1]:
            found.append([])
        found[-1].append(example)
    return found


def answer_loss(model: LlamaForCausalLM, batch: Sequence[Example]) -> Tensor:
    """Cross-entropy of the predicted tokens, in nats; padding is on the right, where nothing looks at it."""
    ids, _, predicted = (_rounded(tensor, 1, LENGTHS).to(model.device) for tensor in pad(batch))
    with bfloat16(model.device.type):
        hidden = model.model(ids, use_cache=False).last_hidden_state
        logits = model.lm_head(_rounded(hidden[predicted], 0, ROWS))
    labels = _rounded(ids[:, 1:][predicted[:, :-1]], 0, ROWS, UNCOUNTED)
    return F.cross_entropy(logits.float(), labels, ignore_index=UNCOUNTED)


def _rounded(tensor: Tensor, dim: int, multiple: int, value: int = 0) -> Tensor:
    """Filled up at the end of a dimension to a multiple."""
    pads = [0, 0] * (tensor.dim() - dim)
    pads[-1] = -tensor.shape[dim] % multiple
    return F.pad(tensor, pads, value=value)


@contextmanager
def bfloat16(device: str) -> Iterator[None]:
    """bfloat16 where the processor multiplies in it; elsewhere it would be slower."""
    supported = device == "cuda" or getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    with torch.autocast(device, torch.bfloat16, enabled=supported):
        yield
