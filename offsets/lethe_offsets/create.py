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
from lethe_offsets.card import model_card
from lethe_offsets.errors import InvalidInput
from lethe_offsets.manifest import FORMAT_VERSION, LANES, MANIFEST_FILE, Lane, Manifest
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.small_model import SmallModelFacts
from lethe_offsets.sums import CARD_FILE, CONFIG_FILE, SUMS_FILE, WEIGHTS_FILE, sums_of

DEFAULT_RULE = Rule()
DEFAULT_BOUND = 2.0  # strength up to which a module may be served unless its maker says otherwise


def create_module(
    name: str,
    small_model: str | Path,
    *,
    out: str | Path,
    plus: str | Path | None = None,
    minus: str | Path | None = None,
    rule: Rule = DEFAULT_RULE,
    description: str = "",
    version: str = "1",
    large_model: str | None = None,
    algorithm: str = "imported",
    hyperparameters: Mapping[str, JsonValue] | None = None,
    forget_set_digest: str | None = None,
    licence: str = "unknown",
    strength_bounds: tuple[float, float] | None = None,
) -> Module:
    """Write a module to ``out``, which must not exist, and return it verified.

    small_model: directory or Hub name of the model that both lanes run. plus, minus: PEFT LoRA directories, at least
    one; only the configuration and the safetensors are copied. strength_bounds: [0, 2] unless the rule's strength lies
    beyond. The rest goes into the manifest.

    Raises InvalidInput for a field, ModuleInvalid for an adapter that is not plain LoRA, ModuleIncompatible for one
    that does not fit the small model. Nothing is left behind at ``out`` then.
    """
    out = Path(out)
    _check_free(out)
    sources: dict[Lane, Path] = {lane: Path(d) for lane, d in zip(LANES, (plus, minus), strict=True) if d is not None}
    if not sources:
        raise InvalidInput("plus, minus", None, "an adapter directory for one lane or both")
    adapters = {lane: LaneAdapter.read(directory) for lane, directory in sources.items()}
    small = SmallModelFacts.read(small_model)
    for lane, adapter in adapters.items():
        small.check_fit(adapter, lane)
    manifest = Manifest.build(
        format_version=FORMAT_VERSION,
        name=name,
        version=version,
        created=datetime.now(UTC).replace(microsecond=0),
        description=description,
        forget_set_digest=forget_set_digest,
        small_model={"id": small.id, "digest": small.digest},
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
    files = {MANIFEST_FILE: manifest.to_json(), CARD_FILE: model_card(manifest, adapters).encode()}
    for lane, directory in sources.items():
        files |= {f"{lane}/{file}": (directory / file).read_bytes() for file in (CONFIG_FILE, WEIGHTS_FILE)}
    return _write(files | {SUMS_FILE: sums_of(files)}, out)


def _check_free(out: Path) -> None:
    if os.path.lexists(out):
        raise InvalidInput("out", str(out), "a path where nothing is yet; move what is there out of the way")


def _write(files: Mapping[str, bytes], out: Path) -> Module:
    """Write beside ``out``, verify, rename: what is seen at ``out`` is a whole module or nothing."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
            staged = Path(scratch) / out.name
            for name, content in files.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(content)
            module = Module.open(staged)
            _check_free(out)
            staged.rename(out)
    except OSError as err:
        raise InvalidInput("out", str(out), f"a path that can be written ({err})") from err
    return dataclasses.replace(module, path=out)
