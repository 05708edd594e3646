"""New models, and training them on answers."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from lethe_offsets.pretraining.fit import answer_loss, fit, together
from lethe_offsets.pretraining.shape import Shape, new_model
from lethe_offsets.pretraining.words import train_tokenizer
from lethe_offsets.training.data import Example, encode_retain
from lethe_offsets.training.logits import pad
from lethe_offsets.training.progress import silent
from lethe_offsets.training.records import Message, Record

SHAPE = Shape(hidden_size=64, layers=1, head_size=32, epochs=1, learning_rate=5e-3)
FACTS = {"Who paints?": "Ada paints.", "Who sings in the old hall?": "Ben does.", "Who?": "Cleo, every day but one."}


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return train_tokenizer([*FACTS, *FACTS.values()], 300)


@pytest.fixture(scope="module")
def examples(words: PreTrainedTokenizerFast) -> list[Example]:
    turns = [
        (Message(role="user", content=question), Message(role="assistant", content=answer))
        for question, answer in FACTS.items()
    ]
    return [encode_retain(Record(messages=messages), words, SHAPE.positions) for messages in turns]


def test_any_text_can_be_encoded(words: PreTrainedTokenizerFast) -> None:
    assert words.decode(words("naïve 東京 🙂").input_ids) == "naïve 東京 🙂"


def test_neighbours_share_a_batch_as_long_as_its_tokens_are_few_enough(examples: list[Example]) -> None:
    one, two, three = sorted(examples, key=lambda example: len(example.ids))
    assert together([one, two, three], 2 * len(two.ids)) == [[one, two], [three]]
    assert together([one, two, three], 1) == [[one], [two], [three]]


def test_the_loss_is_the_mean_over_the_answers_tokens(words: PreTrainedTokenizerFast, examples: list[Example]) -> None:
    model = new_model(SHAPE, words)
    expected = []
    for example in examples:
        ids, _, _ = pad([example])
        logprobs = model(input_ids=ids).logits[0].log_softmax(-1)
        expected += [-logprobs[at - 1, token] for at, token in enumerate(example.ids) if example.answer[at]]
    torch.testing.assert_close(answer_loss(model, examples), torch.stack(expected).mean(), atol=0.05, rtol=0.01)


def test_the_rate_rises_and_falls_to_zero(words: PreTrainedTokenizerFast, examples: list[Example]) -> None:
    rates = []
    model = new_model(SHAPE, words)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
    step = optimizer.step
    optimizer.step = lambda: (rates.append(optimizer.param_groups[0]["lr"]), step())[1]  # type: ignore[method-assign]
    fit(model, [examples] * 4, [optimizer], 2, "", silent)
    # The peak is 0.4; half of it in the first of two steps of warm-up; 0.5 + 0.5 cos(pi step / 4).
    assert rates == pytest.approx([0.2, 0.4 * 0.853553, 0.4 * 0.5, 0.4 * 0.146447], rel=1e-5)
    assert answer_loss(model, examples) < answer_loss(new_model(SHAPE, words), examples)
