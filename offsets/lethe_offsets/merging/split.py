"""SPUNGE, "Split, Unlearn, Merge" (arXiv 2406.11780): one module for each value of an attribute, merged into one."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from lethe_offsets.create import check_free
from lethe_offsets.digests import SALT_BYTES, forget_set_digest
from lethe_offsets.errors import InvalidInput
from lethe_offsets.merging.merge import merge_modules
from lethe_offsets.merging.settings import MergeSettings
from lethe_offsets.module import Module
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.processes import ALONE, Processes
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.recipe import train_module

RUN_FILE = "run.sha256"


def train_split(
    config: TrainingConfig,
    *,
    split_by: str,
    name: str,
    forget_set: str | Path,
    out: Path,
    description: str = "",
    version: str = "1",
    merging: MergeSettings | None = None,
    processes: Processes = ALONE,
    report: Report = silent,
    **options: Any,
) -> Module:
    """Train a module for each value of ``split_by``, a key of the forget set's JSON lines, and merge them to ``out``.

    The parts are trained as ``train_module`` does with the same settings and ``options``, on the lines of one value
    without that key, and lie in ``<out>.parts`` until the merged module is whole; after an interruption the same call
    goes on from there. merging: TIES over the layers' weight differences, at the rank of the parts, unless given.

    Raises InvalidInput for a line without the key and for fewer than two values, and as ``train_module`` and
    ``merge_modules`` do.
    """
    folder = out.with_name(f"{out.name}.parts")

    def prepare() -> tuple[list[str], dict[str, list[str]]]:
        check_free(out)
        lines = _read(Path(forget_set))
        parts = split_lines(lines, split_by)
        named = {key: _named(options[key]) for key in options}
        _claim(folder, [config.model_dump(mode="json"), split_by, lines, named])
        for number, part in enumerate(parts.values(), start=1):
            _part(folder, number).write_text("".join(f"{line}\n" for line in part), encoding="utf-8")
        return lines, parts

    lines, parts = processes.on_main(prepare)
    modules = []
    for number in range(1, len(parts) + 1):

        def numbered(label: str, done: int, total: int, note: str = "", /, number: int = number) -> None:
            report(f"part {number} of {len(parts)}: {label}", done, total, note)

        modules.append(
            processes.on_main(partial(_finished, folder / str(number)))
            or train_module(
                config,
                name=f"part-{number}",
                forget_set=_part(folder, number),
                out=folder / str(number),
                processes=processes,
                report=numbered,
                **options,
            )
        )

    def merge() -> Module:
        salt = hashlib.sha256("".join(module.ref for module in modules).encode()).digest()[:SALT_BYTES]
        merged = merge_modules(
            modules,
            merging or MergeSettings("ties_svd"),
            name=name,
            out=out,
            version=version,
            description=description,
            forget_set_digest=forget_set_digest(lines, salt),
            report=report,
        )
        shutil.rmtree(folder)
        return merged

    return processes.on_main(merge)


def split_lines(lines: list[str], key: str) -> dict[str, list[str]]:
    """JSON lines by their value of ``key``, without it; values in the order in which they occur.

    Raises InvalidInput with the number of a line that is no object or has no such key, and for fewer than two values.
    """
    parts: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as err:
            raise InvalidInput(f"forget set, line {number}", line[:80], f"JSON ({err})") from err
        value = record.pop(key, None) if isinstance(record, dict) else None
        if not isinstance(value, str | int):
            raise InvalidInput(f"forget set, line {number}: {key}", value, "a text or a whole number to split by")
        parts.setdefault(str(value), []).append(json.dumps(record, ensure_ascii=False))
    if len(parts) < 2:
        raise InvalidInput("split_by", key, f"a key of two or more values; it has {list(parts)}")
    return parts


def _read(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidInput("forget set", str(path), f"a file of JSON lines, to be split ({err})") from err


def _claim(folder: Path, run: object) -> None:
    """Make ``folder`` this run's. Raises InvalidInput when it is another's."""
    digest = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    mark = folder / RUN_FILE
    if mark.is_file() and mark.read_text() != digest:
        raise InvalidInput("parts", str(folder), "those of the same settings and data; delete them to start afresh")
    mark.write_text(digest)


def _named(option: object) -> str:
    """What tells an option's value apart: for a file its content."""
    if isinstance(option, str | Path) and Path(option).is_file():
        return hashlib.sha256(Path(option).read_bytes()).hexdigest()
    return str(option)


def _part(folder: Path, number: int) -> Path:
    return folder / f"{number}.jsonl"


def _finished(path: Path) -> Module | None:
    return Module.open(path) if path.exists() else None
