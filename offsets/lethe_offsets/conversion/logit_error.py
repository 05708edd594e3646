"""What an adapter of a given rank leaves of a fine-tuning, in logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lethe_offsets.conversion.difference import linears
from lethe_offsets.errors import InvalidInput
from lethe_offsets.low_rank import Factors
from lethe_offsets.training.progress import Report
from lethe_offsets.training.reference import ReferenceEnsemble

MAX_TOKENS = 512  # of a line of text; what follows is left out
SAMPLES, SAMPLE_TOKENS = 8, 64


@dataclass(frozen=True, slots=True)
class RankError:
    """rank: of the adapter; None for the whole difference of the linear layers, what no rank can better.

    kept: share of the linear layers' squared difference. mean, largest: absolute difference of the logits from the
    tuned model's, in nats, over all tokens and the vocabulary.
    """

    rank: int | None
    kept: float
    mean: float
    largest: float


def read_text(path: Path, tokenizer: PreTrainedTokenizerBase) -> list[Tensor]:
    """Token ids [1, length] of each line that is not blank. Raises InvalidInput for a file without any."""
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidInput("text", str(path), f"a readable UTF-8 file ({err})") from err
    if not lines:
        raise InvalidInput("text", str(path), "at least one line that is not blank")
    return [torch.tensor([tokenizer(line).input_ids[:MAX_TOKENS]]) for line in lines]


def sample_text(tuned: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> list[Tensor]:
    """Token ids [1, length] of sequences that the tuned model says itself, drawn at temperature 1."""
    first = next((token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None), 0)
    drawn = ReferenceEnsemble.plain(tuned).generate([[first]] * SAMPLES, SAMPLE_TOKENS, [], temperature=1.0, seed=seed)
    return [torch.tensor([[first, *tokens]]) for tokens in drawn]


@torch.inference_mode()
def logit_errors(
    base: PreTrainedModel,
    tuned: PreTrainedModel,
    factors: Mapping[str, Factors],
    ranks: Sequence[int],
    text: Sequence[Tensor],
    report: Report,
) -> Iterator[RankError]:
    """The error at each of ``ranks``, which rise, and at last that of the whole difference.

    factors: of ``tuned - base`` by layer. The linear layers of ``base`` are changed in place and end as the tuned ones.
    """
    layers, targets = linears(base), linears(tuned)
    squares = {layer: factors[layer].values.double().square() for layer in factors}
    total = sum(float(values.sum()) for values in squares.values())
    done = 0
    for step, rank in enumerate(ranks, start=1):
        for layer, parts in factors.items():
            layers[layer].weight += parts.between(done, rank)
        done = rank
        kept = sum(float(values[:rank].sum()) for values in squares.values()) / total
        yield RankError(rank, kept, *_error(base, tuned, text))
        report("logit error by rank", step, len(ranks) + 1)
    for layer in factors:
        layers[layer].weight.copy_(targets[layer].weight)
    yield RankError(None, 1.0, *_error(base, tuned, text))
    report("logit error by rank", len(ranks) + 1, len(ranks) + 1)


def _error(base: PreTrainedModel, tuned: PreTrainedModel, text: Sequence[Tensor]) -> tuple[float, float]:
    total, count, largest = 0.0, 0, 0.0
    for ids in text:
        gap = (base(input_ids=ids, use_cache=False).logits - tuned(input_ids=ids, use_cache=False).logits).abs()
        total += float(gap.sum(dtype=torch.float64))
        count += gap.numel()
        largest = max(largest, float(gap.max()))
    return total / count, largest
