"""Recordings on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import tiny
from lethe_offsets.digests import tokenizer_digest
from lethe_offsets.errors import InvalidInput
from lethe_offsets.recording.answers import answer_rows
from lethe_offsets.recording.file import HEADER, Header, Recording, answer_places, write_recording
from lethe_offsets.recording.topk import TopK
from lethe_offsets.training.data import Example

FIRST = Example((0, 5, 6, 7), (False, False, True, True), (-1, -1, 0, 0))
SECOND = Example((0, 8, 9), (False, True, True), (-1, 0, 0))


def rows(seed: int, count: int) -> TopK:
    draw = torch.Generator().manual_seed(seed)
    best = torch.randn(count, 50, generator=draw).log_softmax(dim=-1).topk(3)
    return TopK(best.indices.int(), best.values, best.values[:, 1])


@pytest.fixture
def header() -> Header:
    return Header(model="large", tokenizer_digest=tokenizer_digest(tiny.tokenizer()), top_k=3)


@pytest.fixture
def path(header: Header, tmp_path: Path) -> Path:
    path = tmp_path / "recording.safetensors"
    parts = {FIRST: rows(0, 2), SECOND: rows(1, 2)}
    write_recording(path, header, {header.key(e.ids): (answer_places(e), part) for e, part in parts.items()})
    return path


def test_each_example_gets_its_own_rows(path: Path) -> None:
    recording = Recording.open(path)
    recording.check([SECOND, FIRST], tiny.tokenizer(), "large")
    for example, seed in ((FIRST, 0), (SECOND, 1)):
        assert torch.equal(recording.take(example).ids, rows(seed, 2).ids)
        assert torch.equal(recording.take(example).logprobs, rows(seed, 2).logprobs)
        assert torch.equal(recording.take(example).token_logprobs, rows(seed, 2).token_logprobs)


def test_no_token_of_a_prompt_is_in_it(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        assert sorted(file.keys()) == ["ids", "keys", "logprobs", "places", "start", "token_logprobs"]
        assert set(file.metadata()) == {HEADER}
    assert set(Header.model_fields) == {"format_version", "model", "tokenizer_digest", "top_k", "salt"}


def test_equal_data_is_not_seen_to_be_equal(header: Header) -> None:
    again = Header(model="large", tokenizer_digest=header.tokenizer_digest, top_k=3)
    assert header.key(FIRST.ids) == header.key(FIRST.ids) != again.key(FIRST.ids)


def test_fewer_tokens_of_an_example_are_in_it_too(path: Path) -> None:
    last = Example(FIRST.ids, (False, False, False, True), FIRST.unit)
    Recording.open(path).check([last], tiny.tokenizer())
    assert torch.equal(Recording.open(path).take(last).ids, rows(0, 2).ids[1:])


def test_other_data_another_tokenizer_and_another_model_are_refused(path: Path) -> None:
    recording, other = Recording.open(path), Example(FIRST.ids, (False, True, True, True), FIRST.unit)
    with pytest.raises(InvalidInput, match=r"recording: data: .* 1 of 2 examples are not in it"):
        recording.check([FIRST, other], tiny.tokenizer())
    with pytest.raises(InvalidInput, match="recording: model: got 'large'; accepted: larger"):
        recording.check([FIRST], tiny.tokenizer(), "larger")
    with pytest.raises(InvalidInput, match=r"recording: tokenizer: .* the small model's"):
        recording.check([FIRST], tiny.tokenizer(300))


def test_what_is_no_recording_is_refused(path: Path, header: Header, tmp_path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def broken(changes: dict[str, Tensor], metadata: str) -> None:
        save_file(tensors | changes, tmp_path / "broken", metadata={HEADER: metadata})
        with pytest.raises(InvalidInput, match="a file that lethe record has written"):
            Recording.open(tmp_path / "broken")

    good = header.model_dump_json()
    broken({"logprobs": torch.full_like(tensors["logprobs"], torch.nan)}, good)
    broken({"ids": tensors["ids"][:, :2].clone()}, good)
    broken({"ids": -tensors["ids"] - 1}, good)
    broken({"places": torch.tensor([3, 2, 1, 2])}, good)
    broken({"start": torch.tensor([0, 4, 4])}, good)
    broken({"start": torch.tensor([0, 2, 5])}, good)
    broken({"token_logprobs": tensors["token_logprobs"].double()}, good)
    broken({}, good.replace('"format_version":1', '"format_version":2'))
    broken({}, good.replace("{", '{"colour":"blue",', 1))
    (tmp_path / "text").write_text("no safetensors")
    for wrong in ("text", "absent"):
        with pytest.raises(InvalidInput, match="a file that lethe record has written"):
            Recording.open(tmp_path / wrong)


def test_the_token_on_top_of_the_most_probable_is_told_apart() -> None:
    entries = [None, {"3": {"logprob": -0.1}, "5": {"logprob": -9.0}}, {"6": {"logprob": -0.2}}]
    found = answer_rows(entries, Example((0, 5, 6), (False, True, True), (-1, 0, 0)), 1)
    assert found.ids.tolist() == [[3], [6]]
    assert found.logprobs.flatten().tolist() == pytest.approx([-0.1, -0.2])
    assert found.token_logprobs.tolist() == pytest.approx([-9.0, -0.2])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"3": {"logprob": -0.1}}, "none for id 5"),
        (None, "none for id 5"),
        ({"5": {"logprob": -0.1}, "3": {"logprob": -3.0}, "4": {"logprob": -4.0}}, "the 1 that were asked for"),
        ({"5": {"logprob": float("nan")}}, "finite numbers"),
        ({"5": {"logprob": 2.0}}, "log-probabilities, whose exponentials add up to at most 1"),
    ],
)
def test_answers_that_can_not_be_are_refused(entry: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        answer_rows([None, entry], Example((0, 5), (False, True), (-1, 0)), 1)
