"""The examples to be recorded, encoded as they are for training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, encode_set
from lethe_offsets.training.sources import load_records


def read_data(
    sources: Sequence[str], tokenizer: PreTrainedTokenizerBase, configs: Sequence[TrainingConfig]
) -> list[Example]:
    """The examples of a forget set, which comes first, and of retain sets, as each of ``configs`` has them.

    Raises InvalidInput as ``load_records`` and ``encode_set`` do.
    """
    sets = [load_records(source) for source in sources]
    return [
        example
        for config in configs
        for place, records in enumerate(sets)
        for example in encode_set(records, tokenizer, "retain" if place else "forget", config)
    ]


def merged(examples: Iterable[Example]) -> list[Example]:
    """One example for each sequence of ids, with every token that is predicted in any of them."""
    found: dict[tuple[int, ...], Example] = {}
    for example in examples:
        before = found.get(example.ids, example).answer
        answer = tuple(one or other for one, other in zip(before, example.answer, strict=True))
        found[example.ids] = replace(example, answer=answer)
    return list(found.values())
