"""The files of a module and ``SHA256SUMS``, the list that gives a module its identity."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from lethe_offsets.errors import ModuleCorrupt, ModuleInvalid
from lethe_offsets.manifest import LANES, MANIFEST_FILE

SUMS_FILE = "SHA256SUMS"
EVAL_FILE = "eval.json"
SIGNATURE_FILE = "model.sig"
CARD_FILE = "README.md"
TRAINING_FILE = "training.json"
CURVE_FILE = "training.png"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
UNCOVERED = (SUMS_FILE, EVAL_FILE, SIGNATURE_FILE)  # no part of the identity
MAY_HOLD = frozenset(
    {MANIFEST_FILE, CARD_FILE, SUMS_FILE, EVAL_FILE, SIGNATURE_FILE, TRAINING_FILE, CURVE_FILE}
    | {f"{lane}/{name}" for lane in LANES for name in (CONFIG_FILE, WEIGHTS_FILE)}
)
RUNS_CODE = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npy", ".npz", ".py", ".pyc", ".so")
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)\n")


def read_files(directory: Path) -> dict[str, bytes]:
    """Every file below ``directory`` by its relative name, each read once.

    Raises ModuleInvalid for anything that the format does not hold: other names, links, pipes, directories.
    """
    if not directory.is_dir():
        raise ModuleInvalid("path", str(directory), "a forget module's directory")
    names: list[str] = []
    for parent, folders, files in os.walk(directory):
        here = Path(parent).relative_to(directory)
        for folder in folders:
            _check_folder(directory, (here / folder).as_posix())
        names += [(here / file).as_posix() for file in files]
    for name in sorted(names):
        _check_file(directory, name)
    try:
        return {name: (directory / name).read_bytes() for name in sorted(names)}
    except OSError as err:
        raise ModuleInvalid("path", str(directory), f"a directory of readable files ({err})") from err


def _check_folder(directory: Path, name: str) -> None:
    if (directory / name).is_symlink():
        raise ModuleInvalid(name, f"a link to {os.readlink(directory / name)}", "no links: files lie in the module")
    if name not in LANES:
        raise ModuleInvalid("directory", name, f"only {' and '.join(LANES)}")


def _check_file(directory: Path, name: str) -> None:
    mode = (directory / name).lstat().st_mode
    if stat.S_ISLNK(mode):
        raise ModuleInvalid(name, f"a link to {os.readlink(directory / name)}", "no links: files lie in the module")
    if not stat.S_ISREG(mode):
        raise ModuleInvalid(name, stat.filemode(mode), "a regular file")
    if name in MAY_HOLD:
        return
    if name.lower().endswith(RUNS_CODE):
        raise ModuleInvalid("file", name, f"weights only as {WEIGHTS_FILE}: reading pickles or Python would run code")
    raise ModuleInvalid("file", name, f"only {', '.join(sorted(MAY_HOLD))}")


def sums_of(files: Mapping[str, bytes]) -> bytes:
    """The content of ``SHA256SUMS``: sha256sum's own format, sorted, without itself, scores and signature."""
    covered = sorted(name for name in files if name not in UNCOVERED)
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in covered).encode()


def check_sums(files: Mapping[str, bytes]) -> bytes:
    """The bytes of ``SHA256SUMS`` once they agree with ``files``.

    Raises ModuleInvalid when the list is missing or is not in its one canonical form, ModuleCorrupt when a file is
    missing, added or changed.
    """
    if SUMS_FILE not in files:
        raise ModuleInvalid(SUMS_FILE, None, "a list with the SHA-256 of every file, as sha256sum writes it")
    recorded, actual = _parse(files[SUMS_FILE]), _parse(sums_of(files))
    for name in sorted(recorded.keys() | actual.keys()):
        if name not in actual:
            raise ModuleCorrupt(name, "no file", f"the file listed in {SUMS_FILE}")
        if name not in recorded:
            raise ModuleCorrupt(name, "a file", f"only files listed in {SUMS_FILE}")
        if recorded[name] != actual[name]:
            raise ModuleCorrupt(name, f"sha256:{actual[name]}", f"sha256:{recorded[name]}, as in {SUMS_FILE}")
    if files[SUMS_FILE] != sums_of(files):
        raise ModuleInvalid(SUMS_FILE, "other lines or another order", "one line per file, sorted by name")
    return files[SUMS_FILE]


def listed_names(sums: bytes) -> list[str]:
    """The files that a list names, as it names them: nothing is checked."""
    return sorted(_parse(sums))


def _parse(sums: bytes) -> dict[str, str]:
    """Hex digests by file name; lines that don't parse are left to the comparison with the canonical form."""
    return {name: digest for digest, name in _LINE.findall(sums.decode(errors="replace"))}
