"""The demo from end to end."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from transformers.utils import logging

from lethe_offsets.demo.build import DemoWorld, build_world
from lethe_offsets.demo.evaluate import read_questions
from lethe_offsets.demo.serving import ask, serving, snippets
from lethe_offsets.demo.show import compare
from lethe_offsets.errors import LetheError
from lethe_offsets.training.progress import progress_bars

LOG_FILE = "server.log"


def run(folder: Path, port: int | None, fresh: bool = False) -> None:
    """Build below ``folder``, show before and after, and serve on ``port`` (None: don't) until interrupted.

    Raises LetheError for a server that doesn't become ready.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    console = Console()
    _say(console, f"Everything is kept in {folder}")
    with progress_bars(console) as report:
        world = build_world(folder, fresh=fresh, report=report)
    for table in compare(world):
        console.print(table)
    if port is not None:
        _serve(world, port, folder / LOG_FILE, console)


def _serve(world: DemoWorld, port: int, log: Path, console: Console) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # or the server would outlive us
    questions = {question.split: question.question for question in read_questions(world.facts)}
    _say(console, f"Starting the server; what it prints goes to {log}")
    try:
        with serving(world, port, log) as process:
            for split, question in questions.items():
                _say(console, f"{split}: {question} {ask(port, question)}")
            _say(console, f"\n{snippets(port, questions['forget'])}\nServing on port {port} until Ctrl-C.")
            process.wait()
    except KeyboardInterrupt:
        _say(console, "Stopped.")
    else:
        raise LetheError(f"the server has ended; what it printed is in {log}")


def _say(console: Console, text: str) -> None:
    """Print as it is: no markup, no wrapping, so that commands can be copied."""
    console.print(escape(text), soft_wrap=True, highlight=False)
