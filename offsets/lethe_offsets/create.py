"""Making a forget module from PEFT LoRA adapters, however they were trained."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from pydantic import JsonValue

from lethe_offsets.adapter import LaneAdapter
from lethe_offsets.adapter_files import adapter_files
from lethe_offsets.card import model_card
from lethe_offsets.errors import InvalidInput
from lethe_offsets.manifest import FORMAT_VERSION, LANES, MANIFEST_FILE, Lane, Manifest
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.small_model import SmallModelFacts
from lethe_offsets.sums import CARD_FILE, CONFIG_FILE, SUMS_FILE, WEIGHTS_FILE, sums_of
from lethe_offsets.writing import writing

DEFAULT_RULE = Rule()
DEFAULT_BOUND = 2.0  # strength up to which a module may be served unless its maker says otherwise


def create_module(
    name: str,
    small_model: str | Path,
    *,
    out: str | Path,
    plus: str | Path | LaneAdapter | None = None,
    minus: str | Path | LaneAdapter | None = None,
    plus_model: str | Path | None = None,
    rule: Rule = DEFAULT_RULE,
    description: str = "",
    version: str = "1",
    large_model: str | None = None,
    algorithm: str = "imported",
    hyperparameters: Mapping[str, JsonValue] | None = None,
    forget_set_digest: str | None = None,
    licence: str = "unknown",
    strength_bounds: tuple[float, float] | None = None,
    extras: Mapping[str, bytes] | None = None,
) -> Module:
    """Write a module to ``out``, which must not exist, and return it verified.

    small_model: directory or Hub name of the model that both lanes run. plus, minus: adapters, or PEFT LoRA
    directories of which only the configuration and the safetensors are copied; at least one. plus_model: what the plus
    lane runs instead, a model that differs in its weights alone; then no adapter is needed. strength_bounds: [0, 2]
    unless the rule's strength lies beyond. extras: further files of the format, by name. The rest goes into the
    manifest. SOURCE_DATE_EPOCH in the environment, seconds, is the time of creation then (reproducible-builds.org).

    Raises InvalidInput for a field, ModuleInvalid for an adapter that is not plain LoRA, ModuleIncompatible for one
    that does not fit the small model. Nothing is left behind at ``out`` then.
    """
    out = Path(out)
    check_free(out)
    sources: dict[Lane, str | Path | LaneAdapter] = {
        lane: source for lane, source in zip(LANES, (plus, minus), strict=True) if source is not None
    }
    if not sources and plus_model is None:
        raise InvalidInput("plus, minus", None, "an adapter directory for one lane or both, or a plus_model")
    adapters = {
        lane: source if isinstance(source, LaneAdapter) else LaneAdapter.read(Path(source))
        for lane, source in sources.items()
    }
    small, plus_facts = SmallModelFacts.read_pair(small_model, plus_model)
    for lane, adapter in adapters.items():
        small.check_fit(adapter, lane)
    manifest = Manifest.build(
        format_version=FORMAT_VERSION,
        name=name,
        version=version,
        created=_now(),
        description=description,
        forget_set_digest=forget_set_digest,
        small_model={"id": small.id, "digest": small.digest},
        plus_model=None if plus_facts is None else {"id": plus_facts.id, "digest": plus_facts.digest},
        tokenizer_digest=small.tokenizer_digest,
        vocab_size=small.vocab_size,
        large_model=large_model,
        algorithm=algorithm,
        hyperparameters=dict(hyperparameters or {}),
        rule=rule,
        strength_bounds=strength_bounds or (min(0.0, rule.strength), max(DEFAULT_BOUND, rule.strength)),
        lanes=tuple(sources),
        licence=licence,
    )
    return write_module(manifest, {lane: _files(source) for lane, source in sources.items()}, out, extras)


def write_module(
    manifest: Manifest,
    lanes: Mapping[Lane, Mapping[str, bytes]],
    out: Path,
    extras: Mapping[str, bytes] | None = None,
) -> Module:
    """Write a module with this manifest and the two files of each lane to ``out``, and return it verified.

    Raises InvalidInput when something is at ``out`` or it can't be written, ModuleInvalid for a lane that is not
    plain LoRA. Nothing is left behind at ``out`` then.
    """
    adapters = {
        lane: LaneAdapter.from_bytes(files[CONFIG_FILE], files[WEIGHTS_FILE], lane) for lane, files in lanes.items()
    }
    content = {MANIFEST_FILE: manifest.to_json(), CARD_FILE: model_card(manifest, adapters).encode()}
    content |= {f"{lane}/{name}": data for lane, files in lanes.items() for name, data in files.items()}
    content |= extras or {}
    return _write(content | {SUMS_FILE: sums_of(content)}, out)


def _now() -> datetime:
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    if fixed is None:
        return datetime.now(UTC).replace(microsecond=0)
    if not fixed.isdecimal():
        raise InvalidInput("SOURCE_DATE_EPOCH", fixed, "a whole number of seconds since 1970")
    return datetime.fromtimestamp(int(fixed), UTC)


def _files(source: str | Path | LaneAdapter) -> dict[str, bytes]:
    if isinstance(source, LaneAdapter):
        return adapter_files(source)
    return {name: (Path(source) / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)}


def check_free(out: Path) -> None:
    """Raises InvalidInput when something is at ``out``."""
    if os.path.lexists(out):
        raise InvalidInput("out", str(out), "a path where nothing is yet; move what is there out of the way")


def _write(files: Mapping[str, bytes], out: Path) -> Module:
    """Write beside ``out``, verify, rename: what is seen at ``out`` is a whole module or nothing."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
            staged = Path(scratch) / out.name
            for name, content in files.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(content)
            module = Module.open(staged)
            check_free(out)
            staged.rename(out)
    return dataclasses.replace(module, path=out)
