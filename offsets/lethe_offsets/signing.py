"""Signatures of modules by an elliptic-curve key, as OpenSSF's ``model-signing`` makes them (a sigstore bundle).

They cover every file but ``eval.json`` and the signature itself, ``model.sig``; so does the digest.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lethe_offsets.digests import bytes_digest
from lethe_offsets.errors import InvalidInput, ModuleCorrupt, ModuleUnsigned, SignatureInvalid
from lethe_offsets.module import Module
from lethe_offsets.sums import EVAL_FILE, SIGNATURE_FILE, SUMS_FILE, check_sums, read_files
from lethe_offsets.writing import writing

if TYPE_CHECKING:
    from model_signing.verifying import Config as Verifier

PUBLIC_KEY = "a PEM file with a public key of curve P-256, P-384 or P-521"
PRIVATE_KEY = "a PEM file with an unencrypted private key of curve P-256, P-384 or P-521"


def sign(module: Module, private_key: Path) -> Path:
    """Write ``model.sig`` into the module's directory, in place of one that is there, and return its path.

    Raises InvalidInput for a key that can't be used or a directory that can't be written.
    """
    _check_installed()
    from model_signing import hashing, signing

    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)  # type: ignore[no-untyped-call]
    except Exception as err:  # OSError, ValueError, TypeError, AttributeError for other kinds of keys and files
        raise InvalidInput("private_key", str(private_key), f"{PRIVATE_KEY} ({err})") from err
    # Recorded in the signature: other verifiers then leave out what is written later.
    later = hashing.Config().set_ignored_paths(paths=[EVAL_FILE, SIGNATURE_FILE], ignore_git_paths=False)  # type: ignore[no-untyped-call]
    target = module.path / SIGNATURE_FILE
    with writing(target), tempfile.TemporaryDirectory(dir=module.path.parent, prefix=".sign-") as scratch:
        copy, signature = Path(scratch) / module.name, Path(scratch) / SIGNATURE_FILE
        _write_signed(_files(module), copy)
        signer.set_hashing_config(later).sign(copy, signature)
        os.replace(signature, target)
    return target


def check_signature(module: Module, trusted_keys: Sequence[Path]) -> str:
    """The name, without its ending, of the key file that the module's signature was made with.

    trusted_keys: PEM files of public keys. The files are read once, and are those of ``module.digest``.

    Raises ModuleUnsigned, SignatureInvalid, ModuleCorrupt when the files are others than when the module was opened,
    and InvalidInput for a key that can't be used.
    """
    verifiers = [(key.stem, _verifier(key)) for key in trusted_keys]
    files = _files(module)
    if SIGNATURE_FILE not in files:
        raise ModuleUnsigned(SIGNATURE_FILE, None, f"a signature by one of {_names(trusted_keys)} on {module.ref}")
    with tempfile.TemporaryDirectory(prefix="lethe-signature-") as scratch:
        copy, signature = Path(scratch) / "module", Path(scratch) / SIGNATURE_FILE
        _write_signed(files, copy)
        signature.write_bytes(files[SIGNATURE_FILE])
        problems = []
        for name, verifier in verifiers:
            try:
                verifier.verify(copy, signature)
                _check_covers_sums(files[SIGNATURE_FILE])
                return name
            except Exception as err:  # a signature can be malformed in as many ways as there are exceptions
                problems.append(f"{name}: {' '.join(str(err).split()) or type(err).__name__}")
    accepted = f"a signature of {module.ref} by one of {_names(trusted_keys)}"
    raise SignatureInvalid(SIGNATURE_FILE, "; ".join(problems), accepted)


def check_keys(trusted_keys: Sequence[Path]) -> None:
    """Raises InvalidInput for a key that can't be used."""
    for key in trusted_keys:
        _verifier(key)


def _check_installed() -> None:
    """Raises InvalidInput, with the way out, where the optional packages are missing."""
    try:
        import model_signing  # noqa: F401
    except ImportError as err:
        raise InvalidInput("signing", err.name, "the packages of lethe-server[signing], installed") from err


def _verifier(public_key: Path) -> Verifier:
    _check_installed()
    from model_signing import verifying

    try:
        return verifying.Config().use_elliptic_key_verifier(public_key=public_key)  # type: ignore[no-untyped-call]
    except Exception as err:  # as for private keys
        raise InvalidInput("trusted_keys", str(public_key), f"{PUBLIC_KEY} ({err})") from err


def _files(module: Module) -> dict[str, bytes]:
    files = read_files(module.path)
    digest = bytes_digest(check_sums(files))
    if digest != module.digest:
        raise ModuleCorrupt("digest", digest, module.digest)
    return files


def _write_signed(files: Mapping[str, bytes], directory: Path) -> None:
    for name, content in files.items():
        if name not in (EVAL_FILE, SIGNATURE_FILE):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_bytes(content)


def _check_covers_sums(signature: bytes) -> None:
    """A signature may leave out files: it must not leave out the one that lists all others."""
    statement = json.loads(base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"]))
    covered = [resource["name"] for resource in statement["predicate"]["resources"]]
    if SUMS_FILE not in covered:
        raise ValueError(f"it leaves out {SUMS_FILE}")


def _names(keys: Sequence[Path]) -> str:
    return ", ".join(key.stem for key in keys) or "no key: none is trusted"
