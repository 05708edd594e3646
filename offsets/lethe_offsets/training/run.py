"""A training run on a terminal: progress, warnings, the table of learning rates, time and memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from lethe_offsets.errors import InvalidInput
from lethe_offsets.merging.split import train_split
from lethe_offsets.sums import TRAINING_FILE
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.processes import Processes
from lethe_offsets.training.progress import progress_bars
from lethe_offsets.training.recipe import train_module

MIB = 1024 * 1024


def run(config: TrainingConfig, rates: Sequence[float], device: str, split_by: str | None, **arguments: Any) -> None:
    """``train_module`` with its arguments, or ``train_split``; the reference goes to stdout, the rest to stderr.

    Of several processes only the main one says anything but errors.
    """
    train = partial(train_split, split_by=split_by) if split_by is not None else train_module
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of loading weights
    processes = Processes.launched(device)
    console = Console(stderr=True, quiet=not processes.is_main)
    started = time.monotonic()
    place = _device(device)
    spread = "auto" if device == "auto" and processes.count == 1 and torch.cuda.device_count() > 1 else None
    arguments |= {"device": str(place), "large_device": spread, "processes": processes}
    if not config.objective.bounded:
        console.print(_warning(config), style="yellow")
    with progress_bars(console) as report:
        module = train(config, rates=rates, report=report, **arguments)
    if (module.path / TRAINING_FILE).is_file():
        console.print(table(module.path))
    console.print(f"{time.monotonic() - started:.0f} s, peak memory {_peak_memory(place)}")
    if processes.is_main:
        typer.echo(module.ref)


def table(module: Path) -> Table:
    """The learning rates of a module's training, with the one that was kept."""
    training = json.loads((module / TRAINING_FILE).read_bytes())
    shown = Table(title=f"score = {training['score']}", title_justify="left")
    for column in ("learning rate", "forget", "retain", "step", "score", ""):
        shown.add_column(column, justify="right")
    for result in training["runs"]:
        kept = next((score for score in result["scores"] if score["step"] == result["kept_step"]), None)
        ends = [f"{result['scores'][0][of]:.3g} to {kept[of]:.3g}" if kept else "" for of in ("forget", "retain")]
        stopped = kept and result["scores"][-1]["step"] != result["kept_step"]
        shown.add_row(
            f"{result['learning_rate']:g}",
            *ends,
            f"{result['kept_step']}{', stopped early' if stopped else ''}",
            "not finite" if result["score"] is None else f"{result['score']:.3f}",
            "kept" if result["learning_rate"] == training["learning_rate"] else "",
        )
    return shown


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as err:  # AssertionError: torch was built without CUDA
        accepted = f"a device of this machine ({str(err).strip().splitlines()[0]})"
        raise InvalidInput("device", name, accepted) from err
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic products need
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def _warning(config: TrainingConfig) -> str:
    stop = f"below {config.early_stop_retain:g} of its start" if config.early_stop_retain else "never"
    return (
        f"{config.objective.name} has no minimum: it goes on until the model is broken. Training ends when the retain "
        f"score falls {stop} (early_stop_retain, looked at every {config.score_every} steps)."
    )


def _peak_memory(device: torch.device) -> str:
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    host = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB:.0f} MiB"
    if device.type != "cuda":
        return host
    return f"{host}, on the device {torch.cuda.max_memory_allocated(device) / MIB:.0f} MiB"
