"""A Hugging Face Hub of one repository, with what ``huggingface_hub`` asks of it to read files."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@contextmanager
def hub(repository: str, revisions: Mapping[str, Mapping[str, bytes]]) -> Iterator[str]:
    """The endpoint. revisions: the files of each revision by path, of which a test may exchange any."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            api, resolve = f"/api/models/{repository}", f"/{repository}/resolve/"
            if path == api:
                self._answer_info("main")
            elif path.startswith(f"{api}/revision/"):
                self._answer_info(path.removeprefix(f"{api}/revision/"))
            elif path.startswith(f"{api}/tree/"):
                self._answer_tree(*path.removeprefix(f"{api}/tree/").partition("/")[::2])
            elif path.startswith(resolve):
                self._answer_file(*path.removeprefix(resolve).partition("/")[::2])
            else:
                self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def _answer_info(self, revision: str) -> None:
            if revision not in revisions:
                return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            info = {"id": repository, "modelId": repository, "sha": 40 * "0", "private": False, "siblings": []}
            return self._answer(200, json.dumps(info).encode())

        def _answer_tree(self, revision: str, folder: str) -> None:
            entries = {}
            for name, content in revisions[revision].items():
                if not folder or name.startswith(f"{folder}/"):
                    inside = name.removeprefix(f"{folder}/") if folder else name
                    path = name.removesuffix(inside) + inside.split("/")[0]
                    kind = "directory" if "/" in inside else "file"
                    entries[path] = {"type": kind, "path": path, "size": len(content), "oid": 40 * "0"}
            if not entries:
                return self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
            return self._answer(200, json.dumps(list(entries.values())).encode())

        def _answer_file(self, revision: str, name: str) -> None:
            content = revisions[revision].get(name)
            if content is None:
                return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            if asked := self.headers["Range"]:
                first, last = asked.removeprefix("bytes=").split("-")
                end = min(int(last), len(content) - 1)
                headers = {"Content-Range": f"bytes {first}-{end}/{len(content)}"}
                return self._answer(206, content[int(first) : end + 1], headers)
            return self._answer(200, content)

        def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Nothing on the test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
