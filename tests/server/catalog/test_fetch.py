from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from full_disk import full_disk
from hub import hub
from lethe_offsets.errors import InvalidInput, ModuleCorrupt, ModuleInvalid, ModuleUnsigned, SourceForbidden
from lethe_offsets.module import Module
from lethe_offsets.signing import sign
from lethe_server.catalog.fetch import Fetcher
from lethe_server.errors import SourceUnavailable

Upload = Callable[[Path], str]


def upload(directory: Path, url: str) -> str:
    files, root = fsspec.url_to_fs(url)
    for file in directory.rglob("*"):
        if file.is_file():
            files.pipe_file(f"{root}/{file.relative_to(directory).as_posix()}", file.read_bytes())
    return url


@pytest.fixture(params=["memory", "s3"])
def place(request: pytest.FixtureRequest) -> str:
    """A new prefix."""
    root = "memory://modules" if request.param == "memory" else request.getfixturevalue("bucket")
    return f"{root}/{uuid.uuid4()}"


@pytest.fixture
def serve_http() -> Iterator[Callable[[type[BaseHTTPRequestHandler]], str]]:
    """Starts a server with a handler and returns its URL."""
    servers = []

    def start(handler: Callable[..., BaseHTTPRequestHandler]) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Nothing on the test's output."""


def test_a_directory_is_read_where_it_lies(modules: dict[str, Module], tmp_path: Path) -> None:
    module = modules["a"]
    fetcher = Fetcher([str(module.path.parent)], tmp_path / "cache")
    assert fetcher.fetch(str(module.path)) == module
    assert fetcher.fetch(f"file://{module.path}", module.digest) == module
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ModuleCorrupt, match="digest: got"):
        fetcher.fetch(str(module.path), modules["b"].digest)
    with pytest.raises(ModuleInvalid, match="accepted: a forget module's directory"):
        fetcher.fetch(str(module.path / "absent"))


def test_a_module_comes_by_url_into_the_cache(modules: dict[str, Module], place: str, tmp_path: Path) -> None:
    source = upload(modules["a"].path, f"{place}/a")
    fetcher = Fetcher([place], tmp_path / "cache")
    for digest in (None, modules["a"].digest):
        found = fetcher.fetch(source, digest)
        assert found.ref == modules["a"].ref
        assert found.path == tmp_path / "cache" / modules["a"].digest.removeprefix("sha256:")
        assert found.adapters().keys() == modules["a"].adapters().keys()


def test_what_the_cache_has_is_not_fetched_again(modules: dict[str, Module], place: str, tmp_path: Path) -> None:
    source = upload(modules["a"].path, f"{place}/a")
    fetcher = Fetcher([place], tmp_path / "cache")
    fetcher.fetch(source)
    files, root = fsspec.url_to_fs(source)
    files.rm_file(f"{root}/plus/adapter_model.safetensors")
    assert fetcher.fetch(source).ref == modules["a"].ref  # the list is enough
    files.rm(root, recursive=True)
    assert fetcher.fetch(source, modules["a"].digest).ref == modules["a"].ref  # nothing is needed
    with pytest.raises(ModuleInvalid, match="SHA256SUMS: got None; accepted: a forget module"):
        fetcher.fetch(source)
    with pytest.raises(SourceForbidden):  # nor does the cache open a way around the allowlist
        Fetcher(["memory://other"], tmp_path / "cache").fetch(source, modules["a"].digest)


def test_a_broken_copy_in_the_cache_is_fetched_again(modules: dict[str, Module], place: str, tmp_path: Path) -> None:
    source = upload(modules["a"].path, f"{place}/a")
    fetcher = Fetcher([place], tmp_path / "cache")
    (fetcher.fetch(source).path / "README.md").write_text("changed")
    assert fetcher.fetch(source, modules["a"].digest).ref == modules["a"].ref


def test_only_files_of_a_module_are_fetched(
    module_path: Path, modules: dict[str, Module], place: str, tmp_path: Path
) -> None:
    for name in ("modeling.py", "plus/pytorch_model.bin", ".gitattributes"):
        (module_path / name).write_bytes(b"\x80\x04.")
    found = Fetcher([place], tmp_path / "cache").fetch(upload(module_path, f"{place}/a"))
    assert found.ref == modules["a"].ref
    assert {file.name for file in found.path.rglob("*") if file.is_file()} == {
        *("README.md", "SHA256SUMS", "offset.json", "adapter_config.json", "adapter_model.safetensors")
    }


@pytest.mark.parametrize("name", ["../../evil", "plus/pytorch_model.bin", "modeling.py", "/etc/passwd"])
def test_a_list_that_names_foreign_files_is_refused(module_path: Path, place: str, tmp_path: Path, name: str) -> None:
    sums = module_path / "SHA256SUMS"
    sums.write_text(sums.read_text() + f"{64 * '0'}  {name}\n")
    with pytest.raises(ModuleInvalid, match=f"file: got '{name}'; accepted: only README.md"):
        Fetcher([place], tmp_path / "cache").fetch(upload(module_path, f"{place}/a"))
    assert not (tmp_path / "cache").exists()


def test_changed_and_missing_files_are_refused(module_path: Path, place: str, tmp_path: Path) -> None:
    fetcher = Fetcher([place], tmp_path / "cache")
    (module_path / "README.md").write_text("changed")
    with pytest.raises(ModuleCorrupt, match=r"README.md: got 'sha256:"):
        fetcher.fetch(upload(module_path, f"{place}/changed"))
    (module_path / "README.md").unlink()
    with pytest.raises(ModuleCorrupt, match=r"README.md: got 'no file'"):
        fetcher.fetch(upload(module_path, f"{place}/missing"))
    assert not any((tmp_path / "cache").glob("[0-9a-f]*"))


def test_another_digest_than_the_demanded_is_refused(modules: dict[str, Module], place: str, tmp_path: Path) -> None:
    fetcher = Fetcher([place], tmp_path / "cache")
    source = upload(modules["a"].path, f"{place}/a")
    with pytest.raises(ModuleCorrupt, match=f"digest: got '{modules['a'].digest}'; accepted: {modules['b'].digest}"):
        fetcher.fetch(source, modules["b"].digest)
    for digest in ("sha256:00", modules["a"].digest.upper(), "latest"):
        with pytest.raises(InvalidInput, match=r"digest: got .*; accepted: sha256:<64 hex digits>"):
            fetcher.fetch(source, digest)
    assert not (tmp_path / "cache").exists()


def test_a_module_larger_than_the_bound_is_refused(modules: dict[str, Module], place: str, tmp_path: Path) -> None:
    size = sum(file.stat().st_size for file in modules["a"].path.rglob("*") if file.is_file())
    source = upload(modules["a"].path, f"{place}/a")
    prefixes = [place, str(modules["a"].path.parent)]
    for name in (source, str(modules["a"].path)):
        with pytest.raises(ModuleInvalid, match="at most"):
            Fetcher(prefixes, tmp_path / "cache", max_bytes=size // 2).fetch(name)
        assert Fetcher(prefixes, tmp_path / "cache", max_bytes=2 * size).fetch(name).ref == modules["a"].ref


def test_a_list_without_an_end_is_refused(place: str, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "SHA256SUMS").write_bytes(b"0" * 2**20)
    with pytest.raises(ModuleInvalid, match="SHA256SUMS: got 'a larger file'; accepted: at most 65536 bytes"):
        Fetcher([place], tmp_path / "cache").fetch(upload(tmp_path / "m", f"{place}/a"))


def test_later_files_are_renewed(module_path: Path, place: str, tmp_path: Path) -> None:
    fetcher = Fetcher([place], tmp_path / "cache")
    assert fetcher.fetch(upload(module_path, f"{place}/a")).scores() is None
    (module_path / "eval.json").write_text('{"quality": 1}')
    assert fetcher.fetch(upload(module_path, f"{place}/a")).scores() == {"quality": 1}


def test_a_signature_that_comes_later_is_found(module_path: Path, place: str, tmp_path: Path, keys: Path) -> None:
    fetcher = Fetcher([place, str(tmp_path)], tmp_path / "cache", [keys / "ours.pem"])
    module = Module.open(module_path)
    source = upload(module_path, f"{place}/a")
    for name in (source, str(module_path)):
        with pytest.raises(ModuleUnsigned, match=r"model.sig: got None; accepted: a signature by one of ours"):
            fetcher.fetch(name, module.digest)
    sign(module, keys / "ours.key")
    upload(module_path, source)
    for name in (source, str(module_path)):
        assert fetcher.fetch(name, module.digest).ref == module.ref


def test_a_source_that_can_not_be_reached_is_said(bucket: str, tmp_path: Path) -> None:
    fetcher = Fetcher(["nothing://x", "http://127.0.0.1:9", bucket, "s3://absent"], tmp_path / "cache")
    with pytest.raises(SourceUnavailable, match="from 'nothing://x/a': ValueError: Protocol not known: nothing"):
        fetcher.fetch("nothing://x/a")
    for source in (f"{bucket}/absent", "s3://absent/a", "http://127.0.0.1:9/a"):
        with pytest.raises(ModuleInvalid, match=f"accepted: a forget module; none is found at {source}"):
            fetcher.fetch(source)


def test_a_full_disk_is_said(modules: dict[str, Module], place: str, tmp_path: Path) -> None:
    source = upload(modules["a"].path, f"{place}/a")
    fetcher = Fetcher([place], tmp_path / "cache")
    with full_disk(1024), pytest.raises(SourceUnavailable, match="it can't be kept in the cache"):
        fetcher.fetch(source)
    assert fetcher.fetch(source).ref == modules["a"].ref


def test_a_module_comes_over_http(modules: dict[str, Module], tmp_path: Path, serve_http: Callable[..., str]) -> None:
    url = serve_http(partial(Quiet, directory=str(modules["a"].path.parent)))
    assert Fetcher([url], tmp_path / "cache").fetch(f"{url}/a").ref == modules["a"].ref


def test_no_redirection_leads_to_another_host(
    modules: dict[str, Module], tmp_path: Path, serve_http: Callable[..., str]
) -> None:
    inner = serve_http(partial(Quiet, directory=str(modules["a"].path.parent)))

    class Redirect(Quiet):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{inner}{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

    outer = serve_http(Redirect)
    with pytest.raises((SourceUnavailable, ModuleInvalid)):
        Fetcher([outer], tmp_path / "cache").fetch(f"{outer}/a")
    assert not any((tmp_path / "cache").glob("[0-9a-f]*"))


def test_a_module_comes_from_the_hub(modules: dict[str, Module], tmp_path: Path) -> None:
    def files(module: Module) -> dict[str, bytes]:
        found = [file for file in module.path.rglob("*") if file.is_file()]
        return {f"deep/m/{file.relative_to(module.path).as_posix()}": file.read_bytes() for file in found}

    code = "import sys; from pathlib import Path; from lethe_server.catalog.fetch import Fetcher\n"
    code += "fetcher = Fetcher(['hf://org/repo'], Path(sys.argv[1]))\n"
    code += "for source in sys.argv[2:]: print(fetcher.fetch(source).ref)"
    revisions = {"main": {".gitattributes": b"", **files(modules["a"])}, "v2": files(modules["b"])}
    with hub("org/repo", revisions) as endpoint:
        sources = ["hf://org/repo/deep/m", "hf://org/repo@v2/deep/m"]
        ended = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "cache", *sources],
            env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == [modules["a"].ref, modules["b"].ref]


def test_two_processes_can_fetch_one_module_at_once(modules: dict[str, Module], place: str, tmp_path: Path) -> None:
    source = upload(modules["a"].path, f"{place}/a")
    found: list[str] = []
    work = [
        threading.Thread(target=lambda: found.append(Fetcher([place], tmp_path / "cache").fetch(source).ref))
        for _ in range(6)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found == 6 * [modules["a"].ref]
    shutil.rmtree(tmp_path / "cache")
