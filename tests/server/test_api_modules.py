"""The administration of modules over HTTP, and modules that must not be loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.sums import sums_of
from server_process import ADMIN_KEY, Server

pytestmark = pytest.mark.engine
WEIGHTS = "plus/adapter_model.safetensors"
Change = Callable[[Path], None]


def resum(module: Path) -> None:
    """Write SHA256SUMS anew, so that only the change itself can be refused."""
    files = {path.relative_to(module).as_posix(): path.read_bytes() for path in module.rglob("*") if path.is_file()}
    (module / "SHA256SUMS").write_bytes(sums_of(files))


def edit_json(file: str, **values: Any) -> Change:
    def change(module: Path) -> None:
        content = json.loads((module / file).read_text())
        (module / file).write_text(json.dumps(content | values))
        resum(module)

    return change


def edit_weights(edit: Callable[[str, torch.Tensor], torch.Tensor]) -> Change:
    def change(module: Path) -> None:
        tensors = {name: edit(name, tensor) for name, tensor in load_file(module / WEIGHTS).items()}
        save_file(tensors, module / WEIGHTS)
        resum(module)

    return change


def flip_byte(module: Path) -> None:
    content = bytearray((module / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (module / WEIGHTS).write_bytes(content)


def add_pickle(module: Path) -> None:
    torch.save({}, module / "plus" / "adapter_model.bin")
    resum(module)


def no_effect(name: str, tensor: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(tensor) if "lora_B" in name else tensor


BAD: dict[str, tuple[Change, str]] = {
    "a changed byte": (flip_byte, "SHA256SUMS"),
    "a pickle": (add_pickle, "pickle"),
    "an unknown manifest key": (edit_json("offset.json", surprise=1), "surprise"),
    "another format version": (edit_json("offset.json", format_version=99), "format_version"),
    "a name with a slash": (edit_json("offset.json", name="a/b"), "name"),
    "a name with dots": (edit_json("offset.json", name=".."), "name"),
    "another vocabulary": (edit_json("offset.json", vocab_size=17), "vocab_size"),
    "another tokenizer": (edit_json("offset.json", tokenizer_digest="sha256:" + "0" * 64), "tokenizer_digest"),
    "no manifest": (lambda module: (module / "offset.json").unlink(), "offset.json"),
    "a missing lane": (lambda module: shutil.rmtree(module / "plus"), "plus"),
    "remote code": (edit_json("plus/adapter_config.json", auto_map={"a": "b"}), "auto_map"),
    "NaN weights": (edit_weights(lambda _, tensor: torch.full_like(tensor, torch.nan)), "NaN"),
    "weights whose offset overflows": (edit_weights(lambda _, tensor: tensor * 1e30), "finite"),
    "weights without effect": (edit_weights(no_effect), "changes nothing"),
}


@pytest.fixture(scope="module")
def source(kit: Kit) -> Path:
    """A directory beside the modules at start, from which loading is allowed."""
    return kit.modules["plain"].path.parent


@pytest.fixture(scope="module")
def fresh(kit: Kit, source: Path) -> Path:
    """A sound module that the server doesn't hold yet."""
    plus = tiny.random_adapter(kit.small, source / "fresh-plus", rank=4, seed=300)
    return create_module("fresh", kit.small, plus=plus, out=source / "fresh").path


def load(server: Server, path: Path | str, key: str | None = ADMIN_KEY) -> Any:
    with server.http(key) as http:
        return http.post("/admin/modules", json={"source": str(path)})


def still_answers(server: Server) -> None:
    body = {"model": "forgetful", "prompt": "One, two", "max_tokens": 4}
    assert server.post("/v1/completions", body)["choices"][0]["text"]
    with server.http(None) as http:
        assert http.get("/ready").status_code == 200


def error_of(response: Any, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == status
    return error


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_module_is_refused_and_the_server_goes_on(server: Server, fresh: Path, kind: str) -> None:
    change, said = BAD[kind]
    module = fresh.parent / f"bad-{kind.replace(' ', '-')}"
    shutil.copytree(fresh, module)
    change(module)
    error = error_of(load(server, module), 422)
    assert said in error["message"]
    with server.http(ADMIN_KEY) as http:
        assert {each["name"] for each in http.get("/admin/modules").json()} == {"plain", "both", "ranked"}
    still_answers(server)


def test_a_module_for_another_small_model(server: Server, source: Path) -> None:
    other = tiny.build_small(source / "other-small", seed=77, hidden=96)
    plus = tiny.random_adapter(other, source / "other-plus", rank=4, seed=1)
    module = create_module("other", other, plus=plus, out=source / "other")
    assert "small_model" in error_of(load(server, module.path), 422)["message"]
    still_answers(server)


def test_a_module_of_too_large_a_rank(server: Server, kit: Kit, source: Path) -> None:
    plus = tiny.random_adapter(kit.small, source / "wide-plus", rank=65, seed=1)
    module = create_module("wide", kit.small, plus=plus, out=source / "wide")
    assert "--max-module-rank" in error_of(load(server, module.path), 422)["message"]
    still_answers(server)


def test_paths_outside_of_the_allowed_directories(server: Server, fresh: Path, tmp_path: Path) -> None:
    shutil.copytree(fresh, tmp_path / "outside")
    link = fresh.parent / "link"
    link.symlink_to(tmp_path / "outside")
    for path in (tmp_path / "outside", link, f"{fresh.parent}/../../etc", "/etc/passwd", "relative", "\0"):
        assert error_of(load(server, path), 403)["type"] == "PermissionDeniedError"
    error_of(load(server, fresh.parent / "nothing-there"), 422)


@pytest.mark.parametrize("body", [{}, {"source": 5}, {"source": "x", "force": True}, [], None])
def test_bad_bodies(server: Server, body: Any) -> None:
    with server.http(ADMIN_KEY) as http:
        error_of(http.post("/admin/modules", json=body), 400)
        error_of(http.put("/admin/routes/forgetful", json=body), 400)


def test_without_an_admin_key_nothing_can_be_changed(server: Server, kit: Kit, fresh: Path) -> None:
    ref = kit.modules["plain"].ref
    for key, status in ((None, 401), ("wrong-key", 401), ("client-key", 403)):
        with server.http(key) as http:
            for response in (
                http.get("/admin/modules"),
                http.post("/admin/modules", json={"source": str(fresh)}),
                http.get(f"/admin/modules/{ref}"),
                http.delete(f"/admin/modules/{ref}"),
                http.get("/admin/routes"),
                http.put("/admin/routes/forgetful", json={"module": "both"}),
            ):
                error_of(response, status)


def test_the_life_of_a_module(server: Server, fresh: Path) -> None:
    created = load(server, fresh)
    assert created.status_code == 201
    info = created.json()
    assert info["name"] == "fresh"
    assert info["ref"] == f"fresh@{info['digest']}"
    assert info["active_on"] == []
    assert info["rule"]["strength"] == 1.0
    again = load(server, fresh)
    assert (again.status_code, again.json()) == (200, info)
    with server.http(ADMIN_KEY) as http:
        assert http.get(f"/admin/modules/{info['ref']}").json() == info
        made = http.put("/admin/routes/org/new", json={"module": "fresh"})
        assert made.json().items() >= {"model": "org/new", "module": info["ref"], "previous": None}.items()
        assert ("org/new", info["ref"]) in {
            (each["model"], each["module"]) for each in http.get("/admin/routes").json()
        }
        error = error_of(http.delete("/admin/modules/fresh"), 409)
        assert "org/new" in error["message"]
        assert http.put("/admin/routes/org/new", json={"module": "both"}).json()["previous"] == info["ref"]
        assert http.delete("/admin/modules/fresh").status_code == 204
        error_of(http.get(f"/admin/modules/{info['ref']}"), 404)
        error_of(http.delete("/admin/modules/fresh"), 404)
    assert "org/new" in {model.id for model in server.openai().models.list()}


@pytest.mark.parametrize("name", ["base", "a..b", "a%20b", "a@b", "%2e%2e"])
def test_names_that_can_not_be_public(server: Server, name: str) -> None:
    with server.http(ADMIN_KEY) as http:
        error_of(http.put(f"/admin/routes/{name}", json={"module": "plain"}), 400)


def test_routes_to_modules_that_are_not_there(server: Server) -> None:
    with server.http(ADMIN_KEY) as http:
        error_of(http.put("/admin/routes/forgetful", json={"module": "gone"}), 404)
        error_of(http.put("/admin/routes/forgetful", json={"module": "base"}), 404)
        error_of(http.put("/admin/routes/forgetful", json={"module": "plain@sha256:zz"}), 400)
