"""A forget module on disk, read strictly and verified whole.

<module>/
  offset.json                   the manifest
  plus/adapter_config.json      a PEFT LoRA adapter; minus/ the same, each lane only if the manifest names it
  plus/adapter_model.safetensors
  README.md                     model card
  training.json, training.png   scores over the training steps, as numbers and as a picture; where it was trained here
  eval.json                     scores; written later, not part of the identity
  model.sig                     a signature over the files; made later, not part of the identity
  SHA256SUMS                    one line per file; its digest is the module's

"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lethe_offsets.adapter import LaneAdapter
from lethe_offsets.digests import bytes_digest
from lethe_offsets.errors import ModuleCorrupt, ModuleInvalid
from lethe_offsets.manifest import LANES, MANIFEST_FILE, Lane, Manifest
from lethe_offsets.pair import Rule
from lethe_offsets.sums import CONFIG_FILE, EVAL_FILE, WEIGHTS_FILE, check_sums, read_files


@dataclass(frozen=True, slots=True)
class Module:
    """A verified module: where it lies, its manifest, and its digest ``sha256:<hex of SHA256SUMS>``."""

    path: Path
    manifest: Manifest = field(compare=False)
    digest: str

    @classmethod
    def open(cls, path: str | Path, expected_digest: str | None = None) -> Module:
        """Read and verify the module at ``path``; nothing that it holds is run.

        Raises ModuleInvalid when the format is broken, ModuleCorrupt when a file is not the recorded one or the whole
        is not the one with ``expected_digest``.
        """
        path = Path(path)
        files, digest = _verified_files(path, expected_digest)
        manifest = Manifest.from_json(files[MANIFEST_FILE])
        _check_lanes(manifest, files)
        return cls(path, manifest, digest)

    def adapters(self) -> dict[Lane, LaneAdapter]:
        """The adapter of each lane, from bytes that are verified once more: the files may have changed since.

        Raises as :meth:`open`.
        """
        files, _ = _verified_files(self.path, self.digest)
        return {
            lane: LaneAdapter.from_bytes(files[f"{lane}/{CONFIG_FILE}"], files[f"{lane}/{WEIGHTS_FILE}"], lane)
            for lane in self.manifest.lanes
        }

    @property
    def name(self) -> str:
        """The manifest's."""
        return self.manifest.name

    @property
    def ref(self) -> str:
        """``name@sha256:<hex>``: the identity."""
        return f"{self.name}@{self.digest}"

    @property
    def rule(self) -> Rule:
        """The manifest's: how the offset is applied."""
        return self.manifest.rule

    @property
    def lanes(self) -> dict[Lane, Path]:
        """The adapter directory of each lane that the module has."""
        return {lane: self.path / lane for lane in self.manifest.lanes}

    def scores(self) -> dict[str, object] | None:
        """The content of ``eval.json``; None without one. Numbers that are not finite, which JSON lacks, are None.

        Raises ModuleInvalid unless it is a JSON object.
        """
        file = self.path / EVAL_FILE
        if not file.is_file():
            return None
        try:
            scores = json.loads(file.read_bytes(), parse_constant=lambda _: None, parse_float=_finite)
        except (ValueError, RecursionError) as err:
            raise ModuleInvalid(EVAL_FILE, str(err), "JSON") from err
        if not isinstance(scores, dict):
            raise ModuleInvalid(EVAL_FILE, type(scores).__name__, "a JSON object")
        return scores


def _finite(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


def _verified_files(path: Path, expected_digest: str | None) -> tuple[dict[str, bytes], str]:
    """Every file of the module as it was recorded, and the module's digest."""
    files = read_files(path)
    if MANIFEST_FILE not in files:
        raise ModuleInvalid(MANIFEST_FILE, None, f"a manifest; {path} is no forget module")
    digest = bytes_digest(check_sums(files))
    if expected_digest not in (None, digest):
        raise ModuleCorrupt("digest", digest, str(expected_digest))
    return files, digest


def _check_lanes(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """The lanes on disk are those of the manifest, and each is an adapter that the engine can apply."""
    for lane in LANES:
        config, weights = f"{lane}/{CONFIG_FILE}", f"{lane}/{WEIGHTS_FILE}"
        for name in (config, weights):
            if lane in manifest.lanes and name not in files:
                raise ModuleInvalid(name, None, f"a file for every lane of the manifest, {list(manifest.lanes)}")
            if lane not in manifest.lanes and name in files:
                raise ModuleInvalid(f"{MANIFEST_FILE}: lanes", list(manifest.lanes), f"{lane} too: there is {name}")
        if lane in manifest.lanes:
            LaneAdapter.from_bytes(files[config], files[weights], lane)
