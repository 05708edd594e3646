from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from lethe_offsets.catalog import Catalog, check_source
from lethe_offsets.errors import InvalidInput, ModuleNotFound, SourceForbidden
from lethe_offsets.module import Module


def module(template: Module, name: str, hexdigits: str) -> Module:
    """A module that differs from ``template`` in its name and in the beginning of its digest."""
    manifest = template.manifest.model_copy(update={"name": name})
    return dataclasses.replace(template, manifest=manifest, digest=f"sha256:{hexdigits:0<64}")


@pytest.fixture
def catalog(made_module: Module) -> Catalog:
    """Two versions of "a" and one of "b"."""
    catalog = Catalog()
    for name, hexdigits in (("b", "bbbbbbbb1"), ("a", "aaaaaaaa1"), ("a", "aaaaaaaa2")):
        catalog.add(module(made_module, name, hexdigits))
    return catalog


def test_modules_are_listed_by_reference(catalog: Catalog) -> None:
    assert [known[:19] for known in catalog.refs()] == [
        "a@sha256:aaaaaaaa10",
        "a@sha256:aaaaaaaa20",
        "b@sha256:bbbbbbbb10",
    ]
    assert tuple(known.ref for known in catalog.list()) == catalog.refs()


def test_a_name_with_one_version_is_enough(catalog: Catalog) -> None:
    assert catalog.get("b").ref == f"b@sha256:{'bbbbbbbb1':0<64}"


def test_full_and_shortened_digests_are_found(catalog: Catalog) -> None:
    second = catalog.list()[1]
    assert catalog.get(second.ref) is second
    assert catalog.get("a@sha256:aaaaaaaa2") is second


@pytest.mark.parametrize("ref", ["a", "a@sha256:aaaaaaaa"])
def test_an_ambiguous_reference_lists_what_it_fits(catalog: Catalog, ref: str) -> None:
    with pytest.raises(InvalidInput, match=f"module: got '{ref}'; .*a@sha256:aaaaaaaa10*, a@sha256:aaaaaaaa20*$"):
        catalog.get(ref)


@pytest.mark.parametrize("ref", ["c", "b@sha256:aaaaaaaa", "B", "aaaaaaaa1"])
def test_an_unknown_reference_lists_what_is_known(catalog: Catalog, ref: str) -> None:
    with pytest.raises(ModuleNotFound, match=f"module '{ref}' is not in the catalog; known: a@sha256:") as caught:
        catalog.get(ref)
    assert caught.value.known == list(catalog.refs())


@pytest.mark.parametrize(
    "ref", ["", "b@", "b@sha256:", "b@sha256:bbbbbbb", "b@bbbbbbbb", "@sha256:bbbbbbbb", "b@sha256:zz"]
)
def test_a_reference_of_another_form_is_refused(catalog: Catalog, ref: str) -> None:
    with pytest.raises(InvalidInput, match="accepted: name, or name@sha256:<at least 8 hex digits>"):
        catalog.get(ref)


def test_a_removed_module_is_unknown(catalog: Catalog) -> None:
    assert catalog.remove("b").name == "b"
    with pytest.raises(ModuleNotFound):
        catalog.get("b")
    assert len(catalog.list()) == 2


def test_a_module_that_is_there_stays_as_it_is(catalog: Catalog) -> None:
    there = catalog.get("b")
    catalog.add(dataclasses.replace(there, path=Path("elsewhere")))
    assert catalog.get("b") is there


def test_a_source_within_an_allowed_directory_is_resolved(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    assert check_source(modules / "x" / ".." / "m", [tmp_path / "other", modules]) == (modules / "m").resolve()
    assert check_source(modules, [modules]) == modules.resolve()


@pytest.mark.parametrize("path", ["modules/../secret", "modules-of-others/m", "/etc", "modules/link", "modules/\0"])
def test_a_source_elsewhere_is_forbidden(tmp_path: Path, path: str) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "link").symlink_to(tmp_path)
    with pytest.raises(SourceForbidden, match="path: got"):
        check_source(tmp_path / path, [tmp_path / "modules"])


def test_without_allowed_directories_every_source_is_forbidden(tmp_path: Path) -> None:
    with pytest.raises(SourceForbidden, match="no directory is allowed"):
        check_source(tmp_path, [])
