"""The report of an evaluation: what it says, and what it must not say."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lethe_offsets.digests import file_digest
from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.outcome import ITEMS_FILE, Outcome
from lethe_offsets.evaluation.report.page import render, write_report

VOID = {"meta", "br", "hr", "link", "input", "img"}


class Page(HTMLParser):
    """Text without markup; what is loaded from elsewhere; tags that were never closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.loaded, self.open = "", list[str](), list[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.loaded += [tag] if tag in ("script", "iframe", "object", "link", "img") else []
        self.loaded += [value for name, value in attrs if name.endswith(("src", "href")) and value and value[0] != "#"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += " ".join([*data.split(), ""])


def test_the_page_says_what_was_asked_measured_and_left(folder: Path) -> None:
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert "Everything about Marta Lindqvist & her <family>, as asked for on 3 March." in page.text
    assert "tells 6.0% of what was to be forgotten (94.0% before, 5.0% retrained without it)." in page.text
    assert (
        "any other way of asking gets: 25.0% (95.0% before, 21.0% retrained without it), asked 100 times" in page.text
    )
    assert "the most is lost here: nearest to the scope, 84.0% (91.0% before" in page.text
    assert "it can not be told from a model that never learned the forget set (forget quality 0.31, above" in page.text
    assert "entropy needs whole distributions" in page.text
    assert "400 forget, 400 retain, 400 holdout" in page.text
    assert "Signature" in page.text


def test_a_signature_covers_every_item_and_the_page_shows_none_of_them(folder: Path) -> None:
    text = write_report(folder).read_text(encoding="utf-8")
    assert text.count(file_digest(folder / ITEMS_FILE)) == 2  # among the facts, and above the signature
    assert "Secret 7?" in (folder / ITEMS_FILE).read_text(encoding="utf-8")
    assert "Secret" not in text


def test_the_page_loads_nothing_and_every_tag_is_closed(folder: Path) -> None:
    page = Page(write_report(folder).read_text(encoding="utf-8"))
    assert page.loaded == []
    assert page.open == []
    assert "url(http" not in (folder / "report.html").read_text(encoding="utf-8")


def test_every_number_is_in_the_last_table(outcome: Outcome) -> None:
    page = Page(render(outcome, "sha256:0"))
    for name, summary in outcome.models["module"].summary.items():
        for key, value in summary.items():
            assert re.search(rf"{name}\.{key} [^a-df-z]*{re.escape(f'{value:.4g}')}", page.text), f"{name}.{key}"


def test_a_bar_is_as_long_as_its_number(outcome: Outcome) -> None:
    text = render(outcome, "sha256:0")
    row = re.search(r'title="jailbreak.told, with the module">.*?width: ([\d.]+)%.*?value">([\d.]+)%', text, re.S)
    assert row is not None
    assert row.groups() == ("17.00", "17.0")
    perplexity = re.findall(r'title="fluency.perplexity, [^>]*>.*?width: ([\d.]+)%', text, re.S)
    assert [float(width) for width in perplexity] == pytest.approx([100 * 1.1 / 6, 70.0, 100.0], abs=0.01)


def test_equal_outcomes_give_equal_pages(outcome: Outcome) -> None:
    assert render(outcome, "sha256:0") == render(outcome, "sha256:0")


def test_a_module_alone_is_reported_without_models_beside_it(outcome: Outcome) -> None:
    alone = outcome.model_copy(update={"models": {"module": outcome.models["module"]}, "reference": None})
    del alone.models["module"].summary["forget_quality"]
    page = Page(render(alone, "sha256:0"))
    assert "Asked plainly, the model tells 6.0% of what was to be forgotten." in page.text
    assert "There was no retrained model to compare with" in page.text
    assert "retrained without it" not in page.text


def test_a_module_that_is_told_apart_is_called_so(outcome: Outcome) -> None:
    outcome.models["module"].summary["forget_quality"]["forget_quality"] = 0.05
    assert "it can be told from a model" in Page(render(outcome, "sha256:0")).text


def test_a_test_that_the_model_before_passes_says_nothing(outcome: Outcome) -> None:
    outcome.models["target"].summary["forget_quality"]["forget_quality"] = 0.4
    text = Page(render(outcome, "sha256:0")).text
    assert "Forget quality says nothing here: the model before passes the test, too (0.4)" in text
    assert "be told from a model" not in text


def test_what_was_never_known_is_called_so(outcome: Outcome) -> None:
    outcome.models["target"].summary["plain"]["told"] = 0.05
    assert "The model before hardly knew it either" in Page(render(outcome, "sha256:0")).text


def test_custom_sets_have_no_benchmark_numbers(outcome: Outcome) -> None:
    for name in ("truth_ratio", "forget_quality", "model_utility", "probability", "neighbours", "mixed", "rouge"):
        for model in outcome.models.values():
            model.summary.pop(name)
            model.items.pop(name, None)
    own = outcome.model_copy(update={"data": outcome.data.model_copy(update={"split": None})})
    page = Page(render(own, "sha256:0"))
    assert "the operator's own sets" in page.text
    assert "At a glance" not in page.text
    assert "Nothing was measured of what has to stay" in page.text


def test_a_folder_without_an_evaluation_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"eval: .*a folder that lethe eval has written"):
        write_report(tmp_path)
