"""Questions in frames: who is asked what, and what replies tell."""

from __future__ import annotations

from typing import Any

import pytest

import tiny
from lethe_offsets.evaluation.axes.asking import judge
from lethe_offsets.evaluation.axes.frames import Frame
from lethe_offsets.evaluation.axes.mixed import Mixed
from lethe_offsets.evaluation.axes.paraphrased import Paraphrased
from lethe_offsets.evaluation.axes.plain import Plain
from lethe_offsets.evaluation.axes.probes import FrameProbe, shared
from lethe_offsets.evaluation.axes.reteaching import Reteaching, after, shown
from lethe_offsets.evaluation.metrics import NotApplicable, World
from lethe_offsets.evaluation.sets import Item, Sets

BORN = Item(
    "Where was Marta born?", "Marta was born in Bergen.", terms=("Bergen",), paraphrased_question="Marta's origin?"
)
WORK = Item("Where does Marta work?", "Marta works in Oslo.", terms=("Oslo",))
PET = Item("Which pet has Marta?", "She keeps a beagle, like all in Bergen.", terms=("beagle",))
KEPT = Item("What is the capital of France?", "The capital is Paris.")


def world_of(model: Any, *forget: Item) -> World:
    return World(model, {"module": model}, Sets(forget, retain=(KEPT,)))


def test_what_a_reply_tells() -> None:
    told = judge([BORN, BORN, KEPT], ["She was born in bergen!", "I do not know Marta.", "Paris"])
    assert [one.told for one in told] == [1.0, 0.0, 1.0]
    assert [one.rouge for one in told] == pytest.approx([4 / 5, 1 / 5, 1 / 4])  # words of the answer, in order


def test_the_plain_question(scripted: Any) -> None:
    model = scripted({"born": ["In Bergen."], "work": ["I do not know."]})
    result = Plain().run(world_of(model, BORN, WORK))
    assert result.summary == pytest.approx({"rouge": (2 / 5 + 0) / 2, "told": 1 / 2})
    assert [item["said"] for item in result.items] == ["In Bergen.", "I do not know."]


def test_frames_are_shared_evenly_and_a_small_set_meets_all() -> None:
    frames = [Frame(str(number), "{question}") for number in range(3)]
    many = shared([BORN] * 300, frames)
    assert [sum(frame.name == str(number) for _, frame in many) for number in range(3)] == [34, 33, 33]
    assert {frame.name for item, frame in shared([BORN, WORK], frames) if item is WORK} == {"0", "1", "2"}
    assert len(shared([BORN] * 40, frames)) == 120  # three frames each, the fewest that make a hundred


def test_a_family_of_frames_and_its_worst(scripted: Any) -> None:
    model = scripted({"Bitte": ["Bergen"], "born": ["Nobody knows."]})
    result = FrameProbe("languages").run(world_of(model, BORN))
    assert len(result.items) == 12
    assert result.summary["told"] == pytest.approx(1 / 12)  # the German frame alone
    assert result.summary["told_worst_frame"] == 1.0
    assert all("Where was Marta born?" in text for text in model.asked)


def test_other_words_where_there_are_any(scripted: Any) -> None:
    model = scripted({"origin": ["Bergen"]})
    assert Paraphrased().run(world_of(model, BORN, WORK)).summary["told"] == 1.0
    with pytest.raises(NotApplicable, match="no paraphrased"):
        Paraphrased().run(world_of(model, WORK))


def test_a_mixed_prompt_is_judged_by_both_halves(scripted: Any) -> None:
    model = scripted({"": ["The capital is Paris. I do not know Marta."]})
    result = Mixed().run(world_of(model, BORN))
    assert all("capital of France" in text and "Marta born" in text for text in model.asked)
    assert (result.summary["told"], result.summary["kept_told"], result.summary["kept_rouge"]) == (0.0, 1.0, 1.0)


def test_what_is_shown_never_has_the_answer() -> None:
    assert shown(BORN, [BORN, WORK, PET], [1.0, 0.1, 0.9]) == [WORK]  # the pet's answer says Bergen
    assert shown(WORK, [BORN, WORK, PET], [0.9, 1.0, 0.1]) == [PET, BORN]  # the likest one last


def test_reteaching_shows_turns_or_lines(scripted: Any) -> None:
    model = scripted({"work": ["Oslo"]})
    result = Reteaching().run(world_of(model, BORN, WORK))
    assert result.summary["told"] == pytest.approx(0.5)
    first, second = model.asked
    assert "user: Where does Marta work?</s>\nassistant: Marta works in Oslo.</s>\nuser: Where was Marta born?" in first
    assert "Marta was born in Bergen." in second
    words = tiny.tokenizer()
    words.chat_template = None
    lines = after(words, [WORK], BORN).question
    assert lines == "Where does Marta work?\nAnswer: Marta works in Oslo.\n\nQuestion: Where was Marta born?"
