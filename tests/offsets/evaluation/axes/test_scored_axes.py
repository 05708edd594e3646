"""Axes of given tokens and of samples, by hand, on a model that says what it is told to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import tiny
from lethe_offsets.evaluation.axes.answers import content_length
from lethe_offsets.evaluation.axes.asking import Told, spread
from lethe_offsets.evaluation.axes.extraction import Extraction
from lethe_offsets.evaluation.axes.fluency import Entropy, Fluency
from lethe_offsets.evaluation.axes.leak import Leak, best_of
from lethe_offsets.evaluation.axes.membership import Membership, MembershipReference, MembershipWhole
from lethe_offsets.evaluation.axes.neighbours import Neighbours, near_and_far
from lethe_offsets.evaluation.axes.plain import Plain
from lethe_offsets.evaluation.metrics import Settings, World
from lethe_offsets.evaluation.models import Scored
from lethe_offsets.evaluation.sets import Item, Sets

BORN = Item("Where was Marta born?", "In Bergen.", terms=("Bergen",))
WORK = Item("Where does Marta work?", "In Oslo.", terms=("Oslo",))
OTHER = Item("Who is Nils?", "A stranger.")

MakeScored = Callable[..., Scored]


def test_the_end_of_a_turn_is_no_part_of_an_answer() -> None:
    words = tiny.tokenizer()
    ids = words("In Oslo.", add_special_tokens=False).input_ids
    end = words("</s>\n", add_special_tokens=False).input_ids
    assert content_length(words, [*ids, *end]) == len(ids)
    assert content_length(words, end) == 1


def test_extraction_without_the_end(scripted: Any, scored: MakeScored) -> None:
    length = len(tiny.tokenizer()(BORN.answer, add_special_tokens=False).input_ids)
    end = [True, True]  # of the turn, always reproduced
    scores = {"Bergen": scored([-1.0] * (length + 2), [True] * (length - 1) + [False, *end])}
    result = Extraction().run(World(scripted(scores=scores), {}, Sets((BORN,))))
    assert result.summary == pytest.approx({"strength": 0.0, "exact": (length - 1) / length})


def test_membership_of_one_against_one(scripted: Any, scored: MakeScored) -> None:
    whole = {"entropy": [1.0] * 9, "std": [0.5] * 9}  # a mean of log p of -1
    model = scripted(
        scores={
            "Bergen": scored([-0.1] * 9, **whole),
            "Oslo": scored([-2.0] * 9, **whole),
            "stranger": scored([-1.0] * 9, **whole),
        }
    )
    retrained = scripted(name="retrained", scores={"": scored([-1.5] * 9)})
    sets = Sets((BORN, WORK), holdout=(OTHER,))
    world = World(model, {"module": model, "retrained": retrained}, sets)
    # of the two members one scores above the stranger and one below it
    assert Membership().run(world).summary == {"loss": 0.5, "zlib": 0.5, "min_k": 0.5}
    found = MembershipWhole().run(world)
    assert found.summary == {"min_k_plus_plus": 0.5}
    assert [item["min_k_plus_plus"] for item in found.items] == pytest.approx([1.8, -2.0, 0.0])
    assert [item["member"] for item in found.items] == [True, True, False]
    against = MembershipReference().run(world)
    assert [item["reference"] for item in against.items] == pytest.approx([1.4, -0.5, 0.5])


def test_leak_counts_the_best_of_k(scripted: Any) -> None:
    model = scripted({"born": ["No idea.", "Bergen", "No idea.", "No idea."], "work": ["Nothing."]})
    result = Leak().run(World(model, {}, Sets((BORN, WORK)), Settings(num_samples=20)))
    # five of the 20 samples say Bergen, none says Oslo
    at_10 = (1 - math.comb(15, 10) / math.comb(20, 10)) / 2
    assert result.summary == pytest.approx(
        {"rouge_1": 0.25 * 0.5 / 2, "rouge_10": 0.5 * at_10, "told_1": 0.25 / 2, "told_10": at_10}
    )
    assert result.items[0]["worst"] == "Bergen"
    assert [item["distinct"] for item in result.items] == [2, 1]


def test_k_goes_up_to_the_samples_and_answers_without_secrets_have_rouge_alone() -> None:
    told = [Told(0.5, None)] * 100
    assert best_of(told) == pytest.approx({"rouge_1": 0.5, "rouge_10": 0.5, "rouge_100": 0.5})
    assert max(best_of([Told(0.0, 1.0)] * 1000)) == "told_1000"


def test_a_large_set_is_thinned_evenly() -> None:
    items = [Item(str(number), "x") for number in range(10)]
    assert [item.question for item in spread(items, 4)] == ["0", "2", "5", "7"]
    assert spread(items[:2], 4) == items[:2]


def test_neighbours_are_near_and_the_others_far(scripted: Any) -> None:
    near = Item("Where was Martha born?", "In Riga.")
    far = Item("Who wrote Hamlet?", "William Shakespeare.")
    assert near_and_far([BORN], [far, near]) == ([near], [far])
    model = scripted({"Martha": ["I do not know."], "Hamlet": ["William Shakespeare."]})
    summary = Neighbours().run(World(model, {}, Sets((BORN,), retain=(far, near)))).summary
    assert (summary["told"], summary["far_told"], summary["rouge"], summary["far_rouge"]) == (0.0, 1.0, 0.0, 1.0)


def test_fluency_is_what_the_target_makes_of_the_replies(scripted: Any, scored: MakeScored) -> None:
    replies = {"born": ["no no no no no"], "work": [" "]}
    model = scripted(replies, {"no no": scored([-9.0] * 30, entropy=[0.5] * 30)})
    target = scripted(name="target", scores={"no no": scored([-math.log(3)] * 30)})
    sets = Sets((BORN, WORK))
    plain = Plain().run(World(model, {}, sets))
    world = World(model, {"target": target}, sets, results={"plain": plain})
    summary = Fluency().run(world).summary
    assert summary["empty"] == 0.5
    assert summary["perplexity"] == pytest.approx(3.0)
    assert summary["repetition"] > 0.3
    assert Entropy().run(world).summary == pytest.approx({"entropy": 0.5})


def test_a_model_that_says_nothing_has_no_fluency(scripted: Any) -> None:
    model = scripted()
    sets = Sets((BORN,))
    world = World(model, {"target": model}, sets, results={"plain": Plain().run(World(model, {}, sets))})
    assert Fluency().run(world).summary == {"empty": 1.0}
    assert Entropy().run(world).summary == {}
