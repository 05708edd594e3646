from __future__ import annotations

import hashlib
import hmac
import shutil
from pathlib import Path

import pytest

import tiny
from lethe_offsets.digests import (
    bytes_digest,
    file_digest,
    forget_set_digest,
    local_model,
    small_model_digest,
    tokenizer_digest,
)
from lethe_offsets.errors import InvalidInput


class Vocabulary:
    def __init__(self, tokens: dict[str, int]) -> None:
        self.tokens = tokens

    def get_vocab(self) -> dict[str, int]:
        return self.tokens


def test_a_file_and_its_bytes_have_one_digest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    sha256_of_abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "file") == bytes_digest(b"abc") == sha256_of_abc


def test_the_small_models_digest_covers_its_configuration_and_weights(small_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_path, tmp_path / "copy"))
    digest = small_model_digest(small_path)
    assert small_model_digest(copy) == digest

    (copy / "tokenizer.json").unlink()
    assert small_model_digest(copy) == digest

    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert small_model_digest(copy) != digest


def test_the_small_models_digest_depends_on_which_file_holds_what(tmp_path: Path) -> None:
    for name, first, second in (("one", b"a", b"b"), ("two", b"b", b"a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
        (tmp_path / name / "1.safetensors").write_bytes(first)
        (tmp_path / name / "2.safetensors").write_bytes(second)
    assert small_model_digest(tmp_path / "one") != small_model_digest(tmp_path / "two")


def test_a_directory_without_weights_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"small_model: got .*; accepted: a model with config.json and"):
        small_model_digest(tmp_path)


def test_a_name_that_the_hub_cannot_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="accepted: a local directory or a repository on the Hugging Face Hub"):
        local_model(tmp_path / "nothing" / "here")


def test_a_hub_name_is_resolved_to_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def snapshot_download(repo_id: str, allow_patterns: list[str]) -> str:
        asked.update(repo_id=repo_id, allow_patterns=allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert local_model("owner/small") == tmp_path
    assert asked == {"repo_id": "owner/small", "allow_patterns": ["config.json", "*.safetensors"]}


def test_the_tokenizers_digest_does_not_depend_on_the_order() -> None:
    one = tokenizer_digest(Vocabulary({"a": 0, "b": 1}))
    assert tokenizer_digest(Vocabulary({"b": 1, "a": 0})) == one
    assert tokenizer_digest(Vocabulary({"a": 1, "b": 0})) != one


def test_the_tokenizers_digest_covers_added_tokens() -> None:
    tokenizer = tiny.tokenizer()
    before = tokenizer_digest(tokenizer)
    assert tokenizer_digest(tiny.tokenizer()) == before

    tokenizer.add_tokens(["<forgotten>"])
    assert tokenizer_digest(tokenizer) != before


def test_the_forget_sets_digest_is_an_hmac_under_the_salt() -> None:
    salt = bytes(range(16))
    expected = hmac.new(salt, b'"who?"\n"Marta"\n', hashlib.sha256).hexdigest()
    assert forget_set_digest(["who?\n", "Marta"], salt) == f"hmac-sha256:{salt.hex()}:{expected}"


def test_the_forget_sets_digest_tells_where_lines_end() -> None:
    assert forget_set_digest(["ab", "c"], b"salt") != forget_set_digest(["a", "bc"], b"salt")


def test_the_forget_sets_salt_is_drawn_anew() -> None:
    assert forget_set_digest(["a"]) != forget_set_digest(["a"])
