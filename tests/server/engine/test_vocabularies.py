"""Heads of different width and tokenizers with added tokens: the offset is zero beyond what both models know."""

from __future__ import annotations

from pathlib import Path

import pytest

import families
import tiny
from agreement import ask, largest_difference, random_prompts
from kit import serve
from lethe_offsets.errors import InvalidInput
from lethe_server.engine.service import prepare
from lethe_server.engine.spec import EngineSpec

TOLERANCE = 1e-4  # nats
KINDS = (None, "plus", "both", "pinned")
WORD, SPECIAL = "Lindqvist-Moe", "<|tool|>"


def add_tokens(model: Path, *, special: bool = True) -> tuple[int, int]:
    """A word, and a special token if asked for, behind the tokenizer's own; their ids."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([WORD])
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": [SPECIAL]})
    tokenizer.save_pretrained(model)
    return tokenizer.convert_tokens_to_ids(WORD), tokenizer.convert_tokens_to_ids(SPECIAL)


@pytest.mark.engine
def test_exact(tmp_path: Path) -> None:
    """Neither width is the tokenizer's; that of the small model is the larger one, other tests have the reverse."""
    large = families.build(tmp_path / "large", "llama", 1, vocab_size=400, num_hidden_layers=1)
    small = families.build(tmp_path / "small", "llama_tied", 2, vocab_size=450, num_hidden_layers=1)
    word, special = add_tokens(large)
    assert add_tokens(small) == (word, special)
    assert word == len(tiny.tokenizer())
    kit = families.build_kit(tmp_path, large, small, "llama", (0, 1, 2, special))
    prompts = [[word, *prompt, special, word, *prompt] for prompt in random_prompts((20, 40)) for _ in KINDS]
    kinds = list(KINDS) * 2
    with serve(kit, tmp_path, enforce_eager=True) as served:
        outputs = ask(served, kit, prompts, kinds, prompt_logprobs=0)
    reference = kit.reference()
    for output, prompt, kind in zip(outputs, prompts, kinds, strict=True):
        assert largest_difference(output, prompt, reference, kit, kind) < TOLERANCE, kind


def test_token_added_to_one_only(tmp_path: Path) -> None:
    large = families.build(tmp_path / "large", "llama", 1, vocab_size=400, num_hidden_layers=1)
    small = families.build(tmp_path / "small", "llama", 2, vocab_size=400, num_hidden_layers=1)
    add_tokens(large)
    add_tokens(small, special=False)
    with pytest.raises(InvalidInput, match=r"token '<\|tool\|>' has id 385 in .* and None here"):
        prepare(EngineSpec(str(large), str(small), "kit"))
