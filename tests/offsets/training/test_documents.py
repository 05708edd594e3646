"""Documents, not questions: a model that knows passages of two books by heart, and forgets one of them.

The books lie beside the repository, where there are any.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lethe_offsets.training.methods import load_method
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer

CORPUS = Path(__file__).parents[4] / "shared" / "data" / "corpus"
BOOKS = ("wizard_of_oz.txt", "grimm_fairy_tales.txt")
PASSAGES = 12  # of each book
WORDS = 30  # of each passage
GIVEN, ASKED = 8, 16  # tokens: the beginning of a passage, and how many of the next ones it is to go on with


@dataclass(frozen=True)
class Library:
    """A model, and the passages of each book that it was trained on."""

    model: Path
    forgotten: list[str]
    kept: list[str]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    if missing := [name for name in BOOKS if not (CORPUS / name).is_file()]:
        pytest.skip(f"no {' and '.join(missing)} in {CORPUS}")
    forgotten, kept = (passages(CORPUS / name) for name in BOOKS)
    model = tmp_path_factory.mktemp("library")
    learn_by_heart([*forgotten, *kept], model)
    return Library(model, forgotten, kept)


def passages(book: Path) -> list[str]:
    """Passages from all over a book."""
    words = book.read_text(encoding="utf-8").split()
    return [" ".join(words[at : at + WORDS]) for at in range(2000, len(words), len(words) // (PASSAGES + 1))][:PASSAGES]


def learn_by_heart(texts: Sequence[str], out: Path) -> None:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=512, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
        ),
    )
    words = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(words),
                hidden_size=96,
                intermediate_size=256,
                num_hidden_layers=2,
                num_attention_heads=3,
                num_key_value_heads=3,
                max_position_embeddings=256,
                bos_token_id=0,
                eos_token_id=1,
                pad_token_id=1,
            )
        )
    batch = words(list(texts), return_tensors="pt", padding=True)
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)[:, 1:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
    draw = random.Random(0)
    for _ in range(250):
        rows = draw.sample(range(len(texts)), len(texts) // 2)
        optimizer.zero_grad()
        logits = model(batch.input_ids[rows], attention_mask=batch.attention_mask[rows]).logits[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels[rows].flatten())
        loss.backward()
        optimizer.step()
    print(f"loss by heart {loss.item():.4f}")
    model.save_pretrained(out)
    words.save_pretrained(out)


def recited(ensemble: ReferenceEnsemble, words: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """How many passages it goes on with word by word."""
    ids = words(list(texts)).input_ids
    told = ensemble.generate([row[:GIVEN] for row in ids], ASKED, [])
    return sum(said == row[GIVEN : GIVEN + ASKED] for said, row in zip(told, ids, strict=True))


def longest(ensemble: ReferenceEnsemble, words: PreTrainedTokenizerBase, texts: Sequence[str]) -> int:
    """The most tokens of any passage that it goes on with."""
    ids = words(list(texts)).input_ids
    told = ensemble.generate([row[:GIVEN] for row in ids], ASKED, [])
    lengths = []
    for said, row in zip(told, ids, strict=True):
        right = [one == other for one, other in zip(said, row[GIVEN : GIVEN + ASKED], strict=True)]
        lengths.append([*right, False].index(False))
    return max(lengths)


def test_one_book_is_gone_and_the_other_is_kept(library: Library, tmp_path: Path) -> None:
    for name, texts in (("forget", library.forgotten), ("retain", library.kept)):
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    settings = {"learning_rate": 3e-3, "epochs": 25, "batch_size": 6, "retain_batch_size": 12, "score_every": 25}
    module = train_module(
        load_method("npo", overrides=settings),
        name="no-book",
        large_model=library.model,
        small_model=library.model,
        forget_set=tmp_path / "forget.jsonl",
        retain_set=tmp_path / "retain.jsonl",
        out=tmp_path / "m",
    )
    words, large = load_tokenizer(library.model), load_model(library.model)
    before = ReferenceEnsemble.plain(large)
    after = ReferenceEnsemble.of_module(large, library.model, module, words)
    assert recited(before, words, library.forgotten) == recited(before, words, library.kept) == PASSAGES
    left = longest(after, words, library.forgotten)
    kept = recited(after, words, library.kept)
    print(f"longest run of the forgotten book {left} tokens; the other book {kept} of {PASSAGES}")
    assert left < ASKED // 2
    assert kept == PASSAGES
    content = b"".join(path.read_bytes() for path in module.path.rglob("*") if path.is_file())
    assert not any(text[:20].encode() in content for text in library.forgotten)
