"""An evaluation as one HTML page that holds everything it shows, for a person who signs off a deletion request."""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lethe_offsets.digests import file_digest
from lethe_offsets.evaluation.outcome import ITEMS_FILE, REPORT_FILE, Outcome
from lethe_offsets.evaluation.report.charts import trade_off, truth_ratios
from lethe_offsets.evaluation.report.findings import findings
from lethe_offsets.evaluation.report.measures import NAMES, ORDER, Found, measured, numbers
from lethe_offsets.writing import replacing

SECTIONS = {
    "left": (
        "What is left of what was to be forgotten",
        "Shorter bars are better, down to those of a retrained model.",
    ),
    "kept": ("What has to stay", "Longer bars are better, up to those before."),
    "speech": ("How it speaks instead", "The replies to the questions of the forget set."),
    "cost": ("What it costs", "Measured at the server, in turns."),
}


def write_report(folder: Path) -> Path:
    """``report.html`` in a folder with ``eval.json``; its path.

    It has no text of the data. Raises InvalidInput for a folder without an evaluation, or that can't be written.
    """
    outcome = Outcome.read(folder)
    with replacing(folder / REPORT_FILE) as draft:
        draft.write_text(render(outcome, file_digest(folder / ITEMS_FILE)), encoding="utf-8")
    return folder / REPORT_FILE


def render(outcome: Outcome, digest: str) -> str:
    """The page. digest: of ``eval.json``, which a signature on the page then covers."""
    environment = Environment(
        loader=PackageLoader("lethe_offsets.evaluation.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = list(measured(outcome))
    charts = {"trade_off": trade_off(outcome), "truth_ratios": truth_ratios(outcome)}
    return environment.get_template("page.html.j2").render(
        outcome=outcome,
        short=re.sub(r"(sha256:[0-9a-f]{8})[0-9a-f]+", r"\1", outcome.about.ref),
        digest=digest,
        findings=findings(outcome, found),
        models=[name for name in ORDER if name in outcome.models],
        names=NAMES,
        sections=_sections(found),
        charts={name: Markup(chart) for name, chart in charts.items() if chart},
        numbers=numbers(outcome),
        left_out=outcome.models["module"].left_out,
    )


def _sections(found: list[Found]) -> list[tuple[str, str, list[Found]]]:
    groups = [(*SECTIONS[kind], [one for one in found if one.measure.kind == kind]) for kind in SECTIONS]
    return [group for group in groups if group[2]]
