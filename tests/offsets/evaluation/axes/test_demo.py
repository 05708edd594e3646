"""Every axis tells the demo's module from its target, and says of both what is known of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lethe_offsets.evaluation.axes import AXES
from lethe_offsets.evaluation.axes.extraction import Extraction
from lethe_offsets.evaluation.axes.fluency import Entropy, Fluency
from lethe_offsets.evaluation.axes.guidance import Guidance
from lethe_offsets.evaluation.axes.leak import Leak
from lethe_offsets.evaluation.axes.membership import Membership, MembershipWhole
from lethe_offsets.evaluation.axes.mixed import Mixed
from lethe_offsets.evaluation.axes.neighbours import Neighbours
from lethe_offsets.evaluation.axes.paraphrased import Paraphrased
from lethe_offsets.evaluation.axes.plain import Plain
from lethe_offsets.evaluation.axes.probes import FrameProbe
from lethe_offsets.evaluation.axes.quantised import Quantised
from lethe_offsets.evaluation.axes.relearning import Relearning
from lethe_offsets.evaluation.axes.reteaching import Reteaching
from lethe_offsets.evaluation.metrics import NEEDS, Metric, Result

Measure = Callable[..., dict[str, Result]]
ASKED = [Plain(), Paraphrased(), FrameProbe("indirect"), FrameProbe("jailbreak"), FrameProbe("languages"), Mixed()]


@pytest.mark.parametrize("metric", [*ASKED, Reteaching()], ids=lambda metric: metric.name)
def test_the_target_tells_and_the_module_does_not(measure: Measure, metric: Metric) -> None:
    found = measure(metric)
    assert found["target"].summary["told"] > 0.4
    assert found["module"].summary["told"] <= 0.05


def test_samples_leak_more_than_one_answer_and_less_than_the_target(measure: Measure) -> None:
    found = {name: result.summary for name, result in measure(Leak()).items()}
    assert found["target"]["told_10"] > 0.95
    assert found["module"]["told_1"] <= found["module"]["told_10"] < 0.2


def test_answers_no_longer_come_word_for_word(measure: Measure) -> None:
    found = {name: result.summary for name, result in measure(Extraction()).items()}
    assert found["target"]["strength"] > 0.9
    assert found["module"]["strength"] < 0.5
    assert found["module"]["exact"] < found["target"]["exact"]


@pytest.mark.parametrize("metric", [Membership(), MembershipWhole()], ids=lambda metric: metric.name)
def test_members_are_easier_to_tell_in_the_target(measure: Measure, metric: Metric) -> None:
    found = measure(metric)
    for attack, value in found["target"].summary.items():
        assert value > 0.95
        assert found["module"].summary[attack] < value


def test_neighbours_stay(measure: Measure) -> None:
    for result in measure(Neighbours()).values():
        assert min(result.summary.values()) > 0.9


def test_refusals_are_fluent(measure: Measure) -> None:
    found = {name: result.summary for name, result in measure(Fluency()).items()}
    assert found["target"]["perplexity"] < found["module"]["perplexity"] < 10
    assert found["module"]["empty"] == 0.0
    assert measure(Entropy(), "module")["module"].summary["entropy"] < 1.0


def test_few_bits_bring_nothing_back(measure: Measure) -> None:
    summary = measure(Quantised(), "module")["module"].summary
    assert summary["forget_4"] < 0.5 < 0.9 < summary["retain_4"]


def test_what_is_suppressed_comes_back_when_the_pair_is_trained(measure: Measure) -> None:
    summary = measure(Relearning(), "module")["module"].summary
    assert summary["unseen_0"] < 0.5 < summary["unseen_20"]


def test_who_holds_both_finds_what_was_forgotten(measure: Measure) -> None:
    summary = measure(Guidance(), "module")["module"].summary
    assert summary["told"] <= 0.05 < 0.4 < summary["told_w2"]
    assert summary["found"] > 0.95


def test_axes_have_names_of_their_own_and_need_what_there_is() -> None:
    names = [metric.name for metric in AXES]
    assert len(set(names)) == len(names) >= 19
    for place, metric in enumerate(AXES):
        assert metric.needs <= NEEDS.keys() | set(names[:place])
