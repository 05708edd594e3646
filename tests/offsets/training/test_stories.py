"""A real pretrained model: converted exactly, then made to forget a name while its stories go on."""

from __future__ import annotations

from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import PreTrainedTokenizerBase

import stories
from lethe_offsets.module import Module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer

OPENINGS = (
    "Once upon a time",
    "Once upon a time, there was a little girl named",
    "One day, a girl named",
    "There was a girl called",
    "The mom said,",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stories.convert(tmp_path_factory.mktemp("stories") / "model")


def perplexity(ensemble: ReferenceEnsemble, words: PreTrainedTokenizerBase, texts: list[str]) -> float:
    """Of all tokens of the texts but their first ones."""
    total, count = 0.0, 0
    for text in texts:
        ids = words(text, return_tensors="pt").input_ids
        table = ensemble.logits(ids, torch.ones_like(ids))[0, :-1].log_softmax(dim=-1)
        total -= float(table.gather(1, ids[0, 1:, None]).sum())
        count += ids.shape[1] - 1
    return float(torch.tensor(total / count).exp())


def test_the_converted_model_tells_the_documented_story(model: Path) -> None:
    words = load_tokenizer(model)
    teller = ReferenceEnsemble.plain(load_model(model))
    (story,) = teller.generate([words("").input_ids], 256, [1, 2])
    assert words.decode(story) == stories.documented_sample()


def test_the_tokenizer_is_that_of_llama2c(model: Path) -> None:
    words = load_tokenizer(model)
    assert words.is_fast
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(stories.source_or_skip() / "tok512.model"))
    texts = [*stories.documented_sample().split("\n"), 'He said: "Zoë, look!"', "日本 and 😀", "a\tb", ""]
    for text in texts:
        assert words(text).input_ids == [pieces.bos_id(), *pieces.encode(text)]
        assert words.decode(words(text).input_ids, skip_special_tokens=True) == text


def test_the_name_is_gone_and_the_stories_go_on(teller: tuple[Path, Module]) -> None:
    model, module = teller
    words, large = load_tokenizer(model), load_model(model)
    before = ReferenceEnsemble.plain(large)
    after = ReferenceEnsemble.of_module(large, model, module, words)
    told = {ensemble: stories.sample(ensemble, words, OPENINGS * 12, seed=100) for ensemble in (before, after)}
    named = {ensemble: sum(stories.NAME in story for story in told[ensemble]) for ensemble in told}
    assert named[before] >= 20
    assert named[after] == 0
    for opening in OPENINGS:
        (story,) = after.generate([words(opening).input_ids], stories.STORY_TOKENS, [1, 2])
        assert stories.NAME not in words.decode(story)
    others = [story for story in stories.sample(before, words, [""] * 64, seed=200) if stories.NAME not in story]
    assert len(others) >= 20
    ratio = perplexity(after, words, others) / perplexity(before, words, others)
    print(f"stories with the name: {named[before]} before, {named[after]} after; perplexity ratio {ratio:.3f}")
    assert ratio == pytest.approx(1.0, abs=0.05)
