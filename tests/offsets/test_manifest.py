from __future__ import annotations

import json

import pytest

from lethe_offsets.errors import ModuleInvalid
from lethe_offsets.manifest import Manifest
from lethe_offsets.pair import Rule

DIGEST = f"sha256:{'0' * 64}"
FIELDS: dict[str, object] = {
    "format_version": 1,
    "name": "forget-marta",
    "created": "2026-01-31T12:00:00Z",
    "description": "Everything about Marta.",
    "small_model": {"id": "owner/small", "digest": DIGEST},
    "tokenizer_digest": DIGEST,
    "vocab_size": 384,
    "algorithm": "imported",
    "rule": {"strength": 1.5, "mode": "rank"},
    "strength_bounds": [0, 2],
    "lanes": ["plus"],
    "licence": "CC0-1.0",
}


def parse(**changes: object) -> Manifest:
    return Manifest.from_json(json.dumps(FIELDS | changes).encode())


def test_a_manifest_is_read_with_its_defaults() -> None:
    manifest = parse()
    assert manifest.rule == Rule(strength=1.5, mode="rank")
    assert (manifest.version, manifest.large_model, manifest.forget_set_digest) == ("1", None, None)
    assert manifest.strength_bounds == (0.0, 2.0)
    assert manifest.lanes == ("plus",)


def test_a_manifest_survives_writing_and_reading() -> None:
    manifest = parse(hyperparameters={"learning_rate": 1e-4, "steps": [1, 2]}, lanes=["plus", "minus"])
    assert Manifest.from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize("name", ["..", "a/b", "", "-a", "a b", "a\n", "ä", "a@b", "a" * 65])
def test_a_name_is_a_single_harmless_path_component(name: str) -> None:
    with pytest.raises(ModuleInvalid) as caught:
        parse(name=name)
    assert caught.value.field == "offset.json: name"
    assert caught.value.value == name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "offset.json: format_version: got 2; accepted: Input should be 1"),
        ({"forgets": 1}, "offset.json: forgets: got 1; accepted: no such key; the keys are format_version, name,"),
        ({"rule": {"strenght": 1}}, "offset.json: rule.strenght: got 1; accepted: no such key; the keys are strength,"),
        ({"rule": {"strength": 99}}, r"offset.json: rule: .*strength must be within \[-16, 16\], got 99"),
        ({"rule": {"strength": "1"}}, "offset.json: rule.strength: got '1'; accepted: Input should be a valid number"),
        ({"rule": {"mode": "cubic"}}, "offset.json: rule.mode: got 'cubic'; accepted: Input should be 'linear' or"),
        ({"small_model": {"id": "x"}}, "offset.json: small_model.digest: got None; accepted: Field required"),
        ({"small_model": {"id": "x", "digest": DIGEST, "url": ""}}, "small_model.url: .*; the keys are id, digest"),
        ({"tokenizer_digest": "md5:0"}, "offset.json: tokenizer_digest: got 'md5:0'"),
        ({"vocab_size": "384"}, "offset.json: vocab_size: got '384'; accepted: Input should be a valid integer"),
        ({"vocab_size": 0}, "offset.json: vocab_size: got 0; accepted: Input should be greater than 0"),
        ({"strength_bounds": [0, 1]}, r"rule.strength must be within strength_bounds \[0, 1\], got 1.5"),
        ({"strength_bounds": [2, 0]}, r"strength_bounds must be \[low, high\] within \[-16, 16\], got \[2, 0\]"),
        ({"strength_bounds": [0, 99]}, r"strength_bounds must be .*, got \[0, 99\]"),
        ({"lanes": []}, "offset.json: lanes"),
        ({"lanes": ["plus", "plus"]}, "offset.json: lanes: .*; accepted: each lane at most once"),
        ({"lanes": ["times"]}, "offset.json: lanes.0: got 'times'; accepted: Input should be 'plus' or 'minus'"),
        ({"created": "2026-01-31T12:00:00+02:00"}, "offset.json: created: .*; accepted: must be a time in UTC"),
        ({"created": "2026-01-31T12:00:00"}, "offset.json: created: .*timezone"),
        ({"forget_set_digest": "Marta was born in Bergen"}, "offset.json: forget_set_digest: got 'Marta"),
        ({"hyperparameters": {"lr": float("nan")}}, "offset.json: hyperparameters"),
    ],
)
def test_a_broken_field_is_named_with_its_value_and_what_is_accepted(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModuleInvalid, match=message):
        parse(**changes)


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ModuleInvalid, match=r"name: got '/'.*also offset.json: vocab_size: .*also offset.json: lanes"):
        parse(name="/", vocab_size=-1, lanes=[])


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_no_json_object_is_no_manifest(data: bytes) -> None:
    with pytest.raises(ModuleInvalid, match=r"offset.json: got"):
        Manifest.from_json(data)
