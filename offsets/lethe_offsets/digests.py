"""Digests that tie a forget module to its files, its small model, its tokenizer and its forget set."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from lethe_offsets.errors import InvalidInput

MODEL_FILES = ("config.json", "*.safetensors")
TOKENIZER_FILES = ("*.json", "*.model", "*.txt", "*.jinja")
SALT_BYTES = 16


class HasVocabulary(Protocol):
    """Any Hugging Face tokenizer."""

    def get_vocab(self) -> dict[str, int]: ...


def bytes_digest(data: bytes) -> str:
    """``sha256:<hex>`` of ``data``."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def file_digest(path: Path) -> str:
    """``sha256:<hex>`` of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def local_model(name_or_path: str | Path, patterns: Sequence[str] = MODEL_FILES) -> Path:
    """The directory of a model: a local one as it is, else the Hub's snapshot with files matching ``patterns``.

    Raises InvalidInput when it is neither a directory nor a repository that can be fetched.
    """
    path = Path(name_or_path)
    if path.is_dir():
        return path
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(str(name_or_path), allow_patterns=list(patterns)))
    except (OSError, ValueError) as err:  # the Hub's errors are one or the other
        accepted = f"a local directory or a repository on the Hugging Face Hub ({str(err).strip().splitlines()[0]})"
        raise InvalidInput("small_model", str(name_or_path), accepted) from err


def small_model_digest(name_or_path: str | Path) -> str:
    """Digest of a small model: its ``config.json`` and every ``*.safetensors`` beside it, by name and content.

    Raises InvalidInput when one of the two is missing.
    """
    directory = local_model(name_or_path)
    weights = sorted(directory.glob("*.safetensors"))
    config = directory / "config.json"
    if not (config.is_file() and weights):
        raise InvalidInput("small_model", str(name_or_path), "a model with config.json and *.safetensors files")
    lines = [f"{file_digest(path)}  {path.name}\n" for path in (config, *weights)]
    return bytes_digest("".join(lines).encode())


def tokenizer_digest(tokenizer: HasVocabulary) -> str:
    """Digest of a vocabulary, added tokens included, whatever the order in which it is listed."""
    entries = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    return bytes_digest(json.dumps(entries, separators=(",", ":")).encode())


def forget_set_digest(lines: Iterable[str], salt: bytes | None = None) -> str:
    """``hmac-sha256:<hex salt>:<hex>`` of a forget set's lines in order; line ends don't count.

    The salt is random unless given, so equal forget sets can't be recognised by equal digests. Whoever holds the
    digest can still test a guess of the whole set.
    """
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    mac = hmac.new(salt, digestmod=hashlib.sha256)
    for line in lines:
        mac.update(json.dumps(line.rstrip("\r\n")).encode() + b"\n")
    return f"hmac-sha256:{salt.hex()}:{mac.hexdigest()}"
