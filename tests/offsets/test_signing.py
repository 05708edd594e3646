from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lethe_offsets.create import create_module
from lethe_offsets.errors import InvalidInput, ModuleCorrupt, ModuleUnsigned, SignatureInvalid
from lethe_offsets.module import Module
from lethe_offsets.signing import check_keys, check_signature, sign
from lethe_offsets.sums import sums_of
from signing_keys import make_keys


@pytest.fixture
def signed(module_path: Path, keys: Path) -> Module:
    """A module of the test's own, signed with our key."""
    module = Module.open(module_path)
    assert sign(module, keys / "ours.key") == module_path / "model.sig"
    return Module.open(module_path)


def forged(module: Module, change: Any) -> None:
    """The module with its signature's payload changed."""
    file = module.path / "model.sig"
    bundle = json.loads(file.read_bytes())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(bundle, statement)
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    file.write_text(json.dumps(bundle))


def reseal(path: Path) -> Module:
    """The module after a change, with a list of files that fits, as an attacker would leave it."""
    files = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    (path / "SHA256SUMS").write_bytes(sums_of(files))
    return Module.open(path)


def test_a_signature_is_found_good_by_its_key_and_changes_no_identity(
    signed: Module, made_module: Module, keys: Path
) -> None:
    assert signed.ref == made_module.ref
    assert check_signature(signed, [keys / "ours.pem"]) == "ours"
    assert check_signature(signed, [keys / "theirs.pem", keys / "ours.pem"]) == "ours"
    assert [file.name for file in signed.path.parent.iterdir()] == [signed.path.name]


@pytest.mark.parametrize("curve", ["secp384r1", "secp521r1"])
def test_keys_of_larger_curves_sign_too(module_path: Path, tmp_path: Path, curve: str) -> None:
    private, public = make_keys(tmp_path, "large", curve)
    sign(Module.open(module_path), private)
    assert check_signature(Module.open(module_path), [public]) == "large"


def test_scores_may_come_and_change_later(signed: Module, keys: Path) -> None:
    for text in ("{}", '{"quality": 1}'):
        (signed.path / "eval.json").write_text(text)
        assert check_signature(Module.open(signed.path), [keys / "ours.pem"]) == "ours"
    sign(signed, keys / "theirs.key")
    (signed.path / "eval.json").unlink()
    assert check_signature(signed, [keys / "theirs.pem"]) == "theirs"


def test_an_unsigned_module_is_refused(made_module: Module, keys: Path) -> None:
    message = f"model.sig: got None; accepted: a signature by one of ours, theirs on {made_module.ref}"
    with pytest.raises(ModuleUnsigned, match=message):
        check_signature(made_module, [keys / "ours.pem", keys / "theirs.pem"])


def test_another_key_is_refused(signed: Module, keys: Path) -> None:
    sign(signed, keys / "theirs.key")
    with pytest.raises(SignatureInvalid, match=f"ours: .*; accepted: a signature of {signed.ref} by one of ours"):
        check_signature(signed, [keys / "ours.pem"])
    with pytest.raises(SignatureInvalid, match="no key: none is trusted"):
        check_signature(signed, [])


def test_the_name_of_another_key_in_the_signature_helps_nobody(signed: Module, keys: Path) -> None:
    hint = json.loads((signed.path / "model.sig").read_bytes())["verificationMaterial"]["publicKey"]["hint"]
    sign(signed, keys / "theirs.key")
    file = signed.path / "model.sig"
    bundle = json.loads(file.read_bytes())
    bundle["verificationMaterial"]["publicKey"]["hint"] = hint
    file.write_text(json.dumps(bundle))
    with pytest.raises(SignatureInvalid):
        check_signature(signed, [keys / "ours.pem"])


@pytest.mark.parametrize("name", ["README.md", "offset.json", "plus/adapter_config.json"])
def test_a_changed_file_is_refused(signed: Module, keys: Path, name: str) -> None:
    file = signed.path / name
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(ModuleCorrupt):
        check_signature(signed, [keys / "ours.pem"])
    with pytest.raises(SignatureInvalid, match=r"Hash mismatch|Signature mismatch"):
        check_signature(reseal(signed.path), [keys / "ours.pem"])


def test_files_exchanged_since_the_module_was_opened_are_refused(
    signed: Module, small_path: Path, minus_adapter: Path, tmp_path: Path, keys: Path
) -> None:
    other = create_module("other", small_path, minus=minus_adapter, out=tmp_path / "other")
    shutil.rmtree(other.path)
    shutil.copytree(signed.path, other.path)  # sound and signed, but not what was opened
    with pytest.raises(ModuleCorrupt, match="digest: got"):
        check_signature(other, [keys / "ours.pem"])


def test_an_added_file_is_refused(signed: Module, keys: Path) -> None:
    (signed.path / "training.json").write_text("{}")
    with pytest.raises(SignatureInvalid, match="Extra files"):
        check_signature(reseal(signed.path), [keys / "ours.pem"])


def test_a_signature_copied_from_another_module_is_refused(
    signed: Module, small_path: Path, plus_adapter: Path, tmp_path: Path, keys: Path
) -> None:
    other = create_module(signed.name, small_path, plus=plus_adapter, out=tmp_path / "other")
    shutil.copy(signed.path / "model.sig", other.path)
    with pytest.raises(SignatureInvalid):
        check_signature(Module.open(other.path), [keys / "ours.pem"])


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"null", b"[1]", b"\xff\xfe", b"{" * 5000, b'{"mediaType": "x", "dsseEnvelope": {}}']
)
def test_what_is_no_signature_is_refused(signed: Module, keys: Path, content: bytes) -> None:
    (signed.path / "model.sig").write_bytes(content)
    with pytest.raises(SignatureInvalid):
        check_signature(signed, [keys / "ours.pem"])


def test_a_changed_statement_is_refused(signed: Module, keys: Path) -> None:
    def rename(bundle: Any, statement: Any) -> None:
        statement["subject"][0]["name"] = "another"

    def drop_signatures(bundle: Any, statement: Any) -> None:
        bundle["dsseEnvelope"]["signatures"] = []

    good = (signed.path / "model.sig").read_bytes()
    for change in (rename, drop_signatures):
        (signed.path / "model.sig").write_bytes(good)
        forged(signed, change)
        with pytest.raises(SignatureInvalid):
            check_signature(signed, [keys / "ours.pem"])


def run_tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command of model-signing, warnings not as errors."""
    command = [sys.executable, "-m", "model_signing", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})


def test_the_tool_of_model_signing_finds_our_signature_good(signed: Module, keys: Path) -> None:
    (signed.path / "eval.json").write_text("{}")
    file = ("--signature", signed.path / "model.sig")
    good = run_tool("verify", "key", signed.path, *file, "--public_key", keys / "ours.pem")
    assert good.returncode == 0, good.stderr
    assert run_tool("verify", "key", signed.path, *file, "--public_key", keys / "theirs.pem").returncode != 0


def test_a_signature_of_that_tool_is_good(module_path: Path, keys: Path) -> None:
    arguments = ("--signature", module_path / "model.sig", "--private_key", keys / "ours.key")
    made = run_tool("sign", "key", module_path, *arguments)
    assert made.returncode == 0, made.stderr
    assert check_signature(Module.open(module_path), [keys / "ours.pem"]) == "ours"


def test_a_signature_that_leaves_out_the_list_of_files_is_refused(module_path: Path, keys: Path) -> None:
    arguments = ("--signature", module_path / "model.sig", "--private_key", keys / "ours.key")
    left_out = ("--ignore-paths", module_path / "SHA256SUMS", "--ignore-paths", module_path / "plus")
    assert run_tool("sign", "key", module_path, *arguments, *left_out).returncode == 0
    with pytest.raises(SignatureInvalid, match="it leaves out SHA256SUMS"):
        check_signature(Module.open(module_path), [keys / "ours.pem"])


def test_keys_that_can_not_be_used_are_named(module_path: Path, tmp_path: Path, keys: Path) -> None:
    _, foreign = make_keys(tmp_path, "foreign", "secp256k1")
    (tmp_path / "text.pem").write_text("a key")
    check_keys([keys / "ours.pem"])
    for key in (foreign, tmp_path / "text.pem", tmp_path / "absent.pem", keys / "ours.key"):
        with pytest.raises(InvalidInput, match=f"trusted_keys: got '{key}'; accepted: a PEM file with a public key"):
            check_keys([keys / "ours.pem", key])
    for key in (keys / "ours.pem", tmp_path / "absent.pem"):
        with pytest.raises(InvalidInput, match=f"private_key: got '{key}'; accepted: a PEM file with an unencrypted"):
            sign(Module.open(module_path), key)
    assert not (module_path / "model.sig").exists()
