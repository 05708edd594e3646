from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lethe_offsets.digests import bytes_digest
from lethe_offsets.errors import ModuleCorrupt, ModuleInvalid
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.sums import read_files, sums_of


def seal(path: Path) -> None:
    """Write the list of a module whose files were changed on purpose."""
    (path / "SHA256SUMS").write_bytes(sums_of(read_files(path)))


def change_manifest(path: Path, **changes: object) -> None:
    file = path / "offset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    seal(path)


def test_a_module_knows_its_identity_rule_and_lanes(module_path: Path) -> None:
    module = Module.open(module_path)

    assert module.digest == bytes_digest((module_path / "SHA256SUMS").read_bytes())
    assert module.ref == f"forget-marta@{module.digest}"
    assert module.rule == Rule(strength=1.2, pin_special=True)
    assert module.lanes == {"plus": module_path / "plus", "minus": module_path / "minus"}


def test_sha256sum_checks_a_module(made_module: Module) -> None:
    result = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=made_module.path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "plus/adapter_model.safetensors: OK" in result.stdout


def test_a_copy_is_the_same_module(made_module: Module, module_path: Path) -> None:
    assert Module.open(module_path, expected_digest=made_module.digest).ref == made_module.ref


def test_another_digest_than_expected_is_refused(made_module: Module) -> None:
    other = f"sha256:{'0' * 64}"
    with pytest.raises(ModuleCorrupt, match=f"digest: got '{made_module.digest}'; accepted: {other}"):
        Module.open(made_module.path, expected_digest=other)


@pytest.mark.parametrize("position", [0, 100, -1])
@pytest.mark.parametrize(
    "name", ["offset.json", "README.md", "plus/adapter_config.json", "minus/adapter_model.safetensors"]
)
def test_a_changed_byte_is_found(module_path: Path, name: str, position: int) -> None:
    content = bytearray((module_path / name).read_bytes())
    content[position] ^= 1
    (module_path / name).write_bytes(content)
    with pytest.raises(ModuleCorrupt, match=f"{name}: got 'sha256:"):
        Module.open(module_path)


def test_a_changed_list_is_another_module(module_path: Path, made_module: Module) -> None:
    (module_path / "README.md").write_text("another card")
    seal(module_path)
    with pytest.raises(ModuleCorrupt, match="digest: got"):
        Module.open(module_path, expected_digest=made_module.digest)


def test_scores_are_no_part_of_the_identity(module_path: Path, made_module: Module) -> None:
    assert Module.open(module_path).scores() is None

    (module_path / "eval.json").write_text('{"forget_quality": 0.5}')
    module = Module.open(module_path, expected_digest=made_module.digest)
    assert module.scores() == {"forget_quality": 0.5}


@pytest.mark.parametrize("content", ["[]", "not JSON", "[" * 100_000])
def test_scores_are_a_json_object(module_path: Path, content: str) -> None:
    (module_path / "eval.json").write_text(content)
    with pytest.raises(ModuleInvalid, match=r"eval.json: got"):
        Module.open(module_path).scores()


def test_scores_that_are_not_finite_are_none(module_path: Path) -> None:
    (module_path / "eval.json").write_text('{"a": NaN, "b": [-Infinity, 1e999], "c": 0.5}')
    assert Module.open(module_path).scores() == {"a": None, "b": [None, None], "c": 0.5}


def test_an_unknown_key_in_the_manifest_is_refused(module_path: Path) -> None:
    change_manifest(module_path, sampling={"temperature": 0})
    with pytest.raises(ModuleInvalid, match=r"offset.json: sampling: got"):
        Module.open(module_path)


def test_a_lane_that_the_manifest_does_not_name_is_refused(module_path: Path) -> None:
    change_manifest(module_path, lanes=["plus"])
    expected = re.escape("offset.json: lanes: got ['plus']; accepted: minus too: there is minus/adapter_config.json")
    with pytest.raises(ModuleInvalid, match=expected):
        Module.open(module_path)


def test_a_lane_that_the_manifest_names_must_be_there(module_path: Path) -> None:
    shutil.rmtree(module_path / "minus")
    seal(module_path)
    with pytest.raises(ModuleInvalid, match=r"minus/adapter_config.json: got None; accepted: a file for every lane"):
        Module.open(module_path)


def test_an_adapter_that_a_lane_cannot_carry_is_refused(module_path: Path) -> None:
    file = module_path / "plus" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"use_dora": True}))
    seal(module_path)
    with pytest.raises(ModuleInvalid, match=r"plus/adapter_config.json: use_dora: got True"):
        Module.open(module_path)


@pytest.mark.parametrize("name", ["offset.json", "SHA256SUMS"])
def test_a_directory_without_its_manifest_or_list_is_no_module(module_path: Path, name: str) -> None:
    (module_path / name).unlink()
    with pytest.raises(ModuleInvalid, match=f"{name}: got"):
        Module.open(module_path)


def test_modules_are_equal_by_place_and_digest(made_module: Module, module_path: Path) -> None:
    assert {made_module, Module.open(made_module.path)} == {made_module}
    assert Module.open(module_path) != made_module
