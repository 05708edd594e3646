"""The report in a real browser: narrow, wide and on paper."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lethe_offsets.evaluation.report.page import write_report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MEASURE = """<script>
const found = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1);
const charts = [...document.querySelectorAll("figure svg")].map(e => Math.round(e.getBoundingClientRect().width));
parent.postMessage([innerWidth, document.documentElement.scrollWidth, found.length, ...charts].join(" "), "*");
</script>"""
# A window is never narrower than 500 pixels; a frame is, and media queries ask for its width.
FRAME = """<title></title><script>onmessage = event => document.title = event.data</script>
<iframe src="measured.html" width="{width}" height="900" style="border: 0"></iframe>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    return found


def show(browser: str, page: Path, *options: str) -> str:
    """What a headless browser prints."""
    profile = page.with_name("profile")
    words = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *options]
    return subprocess.run([*words, page.as_uri()], capture_output=True, text=True, timeout=80, check=True).stdout


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_wider_than_the_window(width: int, browser: str, folder: Path) -> None:
    page = folder / "measured.html"
    page.write_text(write_report(folder).read_text(encoding="utf-8").replace("</body>", f"{MEASURE}</body>"), "utf-8")
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width), encoding="utf-8")
    shown = show(browser, frame, "--window-size=1400,1000", "--virtual-time-budget=3000", "--dump-dom")
    title = re.search(r"<title>(\d+) (\d+) (\d+) (\d+) (\d+)</title>", shown)
    assert title is not None
    inner, scrolled, outside, *charts = map(int, title.groups())
    assert inner == width
    assert scrolled <= inner
    assert outside == 0
    assert all(chart >= 300 for chart in charts)


def test_it_prints_on_a_few_pages(browser: str, folder: Path) -> None:
    paper = folder / "report.pdf"
    show(browser, write_report(folder), f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    pages = len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes()))
    assert 2 <= pages <= 8
