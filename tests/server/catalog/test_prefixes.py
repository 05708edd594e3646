from __future__ import annotations

from pathlib import Path

import pytest

from lethe_offsets.errors import InvalidInput, SourceForbidden
from lethe_server.catalog.prefixes import Allowlist

HUB = ["hf://org/repo", "hf://org/pinned@v1", "hf://datasets/org/data"]


@pytest.mark.parametrize(
    ("prefix", "source", "url"),
    [
        ("s3://bucket/modules", "s3://bucket/modules/a", "s3://bucket/modules/a"),
        ("s3://bucket/modules/", "s3://bucket/modules/a/", "s3://bucket/modules/a"),
        ("s3://bucket", "s3://bucket/deep/down/a", "s3://bucket/deep/down/a"),
        ("s3://bucket/modules", "s3://bucket/modules", "s3://bucket/modules"),
        ("s3://bucket/modules", "S3://bucket/modules/a", "s3://bucket/modules/a"),
        ("S3://bucket/modules", "s3://bucket/modules/a", "s3://bucket/modules/a"),
        ("s3://bucket", "s3://bucket/forget@2/a+b=c", "s3://bucket/forget@2/a+b=c"),
        ("http://host:8000/m", "http://host:8000/m/a", "http://host:8000/m/a"),
        ("hf://org/repo", "hf://org/repo/modules/a", "hf://org/repo/modules/a"),
        ("hf://org/repo", "hf://org/repo@v1.2/a", "hf://org/repo@v1.2/a"),
        ("hf://org/repo@v1", "hf://org/repo@v1/a", "hf://org/repo@v1/a"),
        ("hf://org", "hf://org/repo@main/a", "hf://org/repo@main/a"),
        ("hf://datasets/org/data", "hf://datasets/org/data@main/a", "hf://datasets/org/data@main/a"),
    ],
)
def test_a_url_below_a_prefix_is_given_in_one_form(prefix: str, source: str, url: str) -> None:
    assert Allowlist(["s3://other", prefix]).check(source) == url


@pytest.mark.parametrize(
    "source",
    [
        "s3://bucket/modules-2/a",
        "s3://bucket/module",
        "s3://bucket",
        "s3://bucket/other/modules/a",
        "s3://bucket/Modules/a",
        "s3://bucket2/modules/a",
        "s3://bucket.evil/modules/a",
        "s3://evil/bucket/modules/a",
        "s3:///bucket/modules/a",
        "s3a://bucket/modules/a",
        "gs://bucket/modules/a",
        "memory://bucket/modules/a",
        "s3://bucket/modules/../other/a",
        "s3://bucket/modules/a/../../other",
        "s3://bucket/modules/..",
        "s3://bucket/modules/./a",
        "s3://bucket/modules//a",
        "s3://bucket//modules/a",
        "s3://bucket/modules//",
        "s3://bucket/modules/%2e%2e/other/a",
        "s3://bucket/modules/%2E%2E%2Fother",
        "s3://bucket/modules%2f..%2fother",
        "s3://bucket/modules/a%00",
        "s3://bucket/modules/a\x00",
        "s3://bucket/modules/a\n",
        "s3://bucket/modules/a\\..\\..\\other",
        "s3://bucket/modules/a?versionId=1",
        "s3://bucket/modules/a#part",
        "s3://bucket/modules/*",
        "s3://bucket/modules/[a]",
        "s3://bucket/modules/a b",
        "s3://bucket/modules/\u2024\u2024/a",
        "s3://bucket/modules/\uff0e\uff0e/a",
        "s3://user@bucket/modules/a",
        "s3://user:password@bucket/modules/a",
        "s3://bucket@evil/modules/a",
        "s3://evil\\@bucket/modules/a",
        " s3://bucket/modules/a",
        "simplecache::s3://bucket/modules/a",
        "zip://x::s3://bucket/modules/a",
        "s3://bucket/modules/a::memory://x",
        "file://bucket/modules/a",
        "s3:/bucket/modules/a",
        "//bucket/modules/a",
        "",
    ],
)
def test_no_disguise_leads_out_of_a_prefix(source: str) -> None:
    with pytest.raises(SourceForbidden):
        Allowlist(["s3://bucket/modules"]).check(source)


@pytest.mark.parametrize(
    "source",
    [
        "hf://org/repo-2/a",
        "hf://org/pinned/a",
        "hf://org/pinned@v2/a",
        "hf://org/pinned@v1@v2/a",
        "hf://org/repo@refs/pr/1/a",
        "hf://org/repo@refs%2Fpr%2F1/a",
        "hf://org/repo@/a",
        "hf://org@main/repo/a",
        "hf://org/repo/a@main",
        "hf://spaces/org/data/a",
        "hf://datasets/org@main/data/a",
        "hf://datasets/org/data-2/a",
        "hf://org/data/a",
        "hf://buckets/org/repo/a",
    ],
)
def test_the_hub_has_only_the_named_repositories_and_revisions(source: str) -> None:
    with pytest.raises(SourceForbidden):
        Allowlist(HUB).check(source)


def test_a_refusal_names_the_source_and_what_is_allowed() -> None:
    message = "source: got 's3://evil/a'; accepted: a source within s3://bucket, /srv/modules"
    with pytest.raises(SourceForbidden, match=message):
        Allowlist(["s3://bucket", "/srv/modules"]).check("s3://evil/a")
    with pytest.raises(SourceForbidden, match="within nothing: no source is allowed"):
        Allowlist([]).check("s3://evil/a")


def test_a_password_is_in_no_refusals_advice() -> None:
    with pytest.raises(SourceForbidden, match="without a user or password"):
        Allowlist(["http://host"]).check("http://user:secret@host/a")


@pytest.mark.parametrize(
    "prefix",
    ["s3://", "s3://user@bucket", "s3://bucket/..", "file://host/x", "hf://org/repo@refs/pr/1", "http://h/%41"],
)
def test_a_prefix_that_can_not_be_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidInput, match="module_sources: got"):
        Allowlist([prefix])


def test_local_directories_are_taken_with_links_resolved(tmp_path: Path) -> None:
    modules, outside = tmp_path / "modules", tmp_path / "outside"
    for directory in (modules / "a", outside):
        directory.mkdir(parents=True)
    (modules / "link").symlink_to(outside)
    (tmp_path / "alias").symlink_to(modules)
    allowed = Allowlist([str(tmp_path / "alias")])
    for source in (
        modules / "a",
        f"file://{modules}/a",
        f"FILE://{modules}/a",
        f"{modules}/x/../a",
        tmp_path / "alias/a",
    ):
        assert allowed.check(str(source)) == (modules / "a").resolve()
    escapes = [outside, modules / "link", f"{modules}/../outside", f"file://{modules}/../outside", f"{modules}-2/a"]
    for source in [*escapes, f"local://{modules}/link", "/", "a\x00", f"file://host{modules}/a", f"file:{modules}/a"]:
        with pytest.raises(SourceForbidden):
            allowed.check(str(source))
