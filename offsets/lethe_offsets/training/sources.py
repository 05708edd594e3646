"""Where a set comes from: a JSON lines file, or whatever the ``datasets`` library loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.records import Record, read_records, unsound

ACCEPTED = "a JSON lines file, a parquet file, a dataset's directory, or a hub dataset OWNER/NAME[/CONFIG][:SPLIT]"
HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(/(?P<config>[\w.-]+))?")
FILES = (".jsonl", ".json", ".parquet", ".csv", ".txt")  # a name that ends so is a file that is missing
DEFAULT_SPLIT = "train"


def load_records(source: str | Path) -> list[Record]:
    """The records of a set, in their order.

    source: a file of JSON lines (see ``records.py``), a parquet file, a directory that ``datasets`` loads or has saved,
    or a hub dataset; all but the first may end in ``:SPLIT``, which is ``train`` otherwise. Of a dataset only the
    columns that a record knows are read.

    Raises InvalidInput for a source that isn't there, a bad record, and an empty set.
    """
    path = Path(source)
    lines = path.is_file() and path.suffix != ".parquet"
    records = _read_lines(path) if lines else list(_read_rows(str(source)))
    if not records:
        raise InvalidInput("data", str(source), "at least one record")
    return records


def _read_lines(path: Path) -> list[Record]:
    try:
        with path.open(encoding="utf-8") as file:
            return list(read_records(file, path.name))
    except (OSError, UnicodeDecodeError) as err:
        raise InvalidInput("data", str(path), f"a readable file of UTF-8 text ({err})") from err


def _read_rows(source: str) -> Iterator[Record]:
    for number, row in enumerate(_load_dataset(source), start=1):
        known = {key: value for key, value in row.items() if key in Record.model_fields and value is not None}
        try:
            yield Record.model_validate(known)
        except ValidationError as err:
            raise unsound(err, f"{source} row {number}, columns {', '.join(row)}", str(known)) from err


def _load_dataset(source: str) -> Any:
    """Its rows, each a dictionary."""
    place, split = _split(source)
    path, hub = Path(place), HUB_NAME.fullmatch(place)
    if not place or (not path.exists() and (hub is None or path.suffix in FILES)):
        raise InvalidInput("data", source, ACCEPTED)
    try:
        import datasets  # type: ignore[import-untyped]  # seconds to import
    except ModuleNotFoundError as err:
        raise InvalidInput("data", source, "a JSON lines file, unless the package datasets is installed") from err
    try:
        if path.is_file():
            return datasets.load_dataset("parquet", data_files={DEFAULT_SPLIT: place}, split=split)
        if any((path / saved).is_file() for saved in ("dataset_dict.json", "dataset_info.json")):
            found = datasets.load_from_disk(place)
            return (found if isinstance(found, datasets.DatasetDict) else {DEFAULT_SPLIT: found})[split]
        name, config = (place, None) if path.is_dir() or hub is None else (hub["name"], hub["config"])
        return datasets.load_dataset(name, config, split=split)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as err:
        raise InvalidInput("data", source, f"{ACCEPTED} ({str(err).partition(chr(10))[0]})") from err


def _split(source: str) -> tuple[str, str]:
    """What comes before the last colon, and the split after it."""
    place, colon, split = source.rpartition(":")
    return (place, split) if colon and not Path(source).exists() else (source, DEFAULT_SPLIT)
