"""Which part of the small model a run may change.

WAGLE (arXiv 2410.17509) scores every weight of the model by the gradients g of the two losses and trains the highest
ones alone::

    S = |(w - g_retain / gamma) * g_forget|

Here it chooses among the rows of the linear layers, that is among their outputs. What differs from the paper:

- An adapter is trained, not the weights: a row's score is the sum over its weights, and the rows of ``lora_B`` that are
  not chosen stay zero, so exactly these outputs of the layer never change. ``lora_A`` is trained whole.
- The losses are the ensemble's cross-entropy before training, because it is the ensemble that forgets; and they are
  taken over the scored sample.
- gamma, a scalar in the place of the Hessian that the paper tunes for each model, is the one by which both summands
  have the same root mean square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from peft import PeftModelForCausalLM
from torch import Tensor
from transformers import PreTrainedModel

from lethe_offsets.adapter import PREFIX
from lethe_offsets.training.ensemble import Ensemble
from lethe_offsets.training.objectives.rows import token_log_probs
from lethe_offsets.training.scores import PASS_EXAMPLES


def choose_rows(
    share: float, small: PreTrainedModel, ensemble: Ensemble, forget: Sequence[int], retain: Sequence[int]
) -> dict[str, Tensor]:
    """Masks, bool [out], of the rows to train by the linear layer's name: ``share`` of all rows, in (0, 1].

    ensemble: one whose plus lane is ``small`` itself. forget, retain: the examples whose gradients count.
    """
    head = small.get_output_embeddings()  # type: ignore[no-untyped-call]
    layers = {
        name: layer for name, layer in small.named_modules() if isinstance(layer, torch.nn.Linear) and layer is not head
    }
    weights = [layer.weight for layer in layers.values()]
    scores = attribute(weights, *(_gradients(weights, ensemble, indices) for indices in (forget, retain)))
    return dict(zip(layers, top_rows(scores, share), strict=True))


def attribute(weights: Sequence[Tensor], forget: Sequence[Tensor], retain: Sequence[Tensor]) -> list[Tensor]:
    """The score of each row, [out] for each weight [out, in]; forget, retain: the gradients at the weights."""
    gamma = (_square(retain) / _square(weights)) ** 0.5
    return [
        ((weight.detach().float() - kept / gamma) * gone).abs().sum(dim=-1)
        for weight, gone, kept in zip(weights, forget, retain, strict=True)
    ]


def top_rows(scores: Sequence[Tensor], share: float) -> list[Tensor]:
    """Masks of the highest ``share`` of all scores together, at least one."""
    flat = torch.cat(list(scores))
    chosen = torch.zeros_like(flat, dtype=torch.bool)
    chosen[flat.topk(max(1, round(share * len(flat)))).indices] = True
    return list(torch.split(chosen, [len(score) for score in scores]))


def train_only(rows: Mapping[str, Tensor], adapted: PeftModelForCausalLM) -> None:
    """Let only these rows of the layers' outputs change: no gradient reaches the others."""
    for name, weight in adapted.named_parameters():
        layer, found, _ = name.removeprefix(PREFIX).partition(".lora_B.")
        if found:
            mask = rows[layer][:, None].to(weight.device)
            weight.register_hook(lambda gradient, mask=mask: gradient * mask)  # type: ignore[no-untyped-call]


def _gradients(weights: Sequence[Tensor], ensemble: Ensemble, indices: Sequence[int]) -> list[Tensor]:
    """Of the mean cross-entropy of what is to be predicted in these examples, float32."""
    frozen = [weight.requires_grad for weight in weights]
    sums = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    for at in range(0, len(indices), PASS_EXAMPLES):
        batch = ensemble.batch(indices[at : at + PASS_EXAMPLES])
        rows = batch.forget if len(batch.forget.tokens) else batch.retain
        loss = -token_log_probs(rows.ensemble, rows.tokens).sum()
        for total, gradient in zip(sums, torch.autograd.grad(loss, weights), strict=True):
            total += gradient
    for weight, before in zip(weights, frozen, strict=True):
        weight.requires_grad_(before)
    return sums


def _square(tensors: Sequence[Tensor]) -> float:
    """The mean of all squares."""
    count = sum(tensor.numel() for tensor in tensors)
    return sum(float(tensor.detach().float().square().sum()) for tensor in tensors) / count
