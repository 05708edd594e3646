"""The admin API of a running server, as the commands use it."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from lethe_offsets.catalog import match_ref
from lethe_offsets.errors import LetheError
from lethe_server.names import BASE

CONNECT_S = 10.0
T = TypeVar("T")


class Refused(LetheError):
    """The server said no. status: HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(LetheError):
    """Nothing that answers as Lethe does is at the URL."""


class _Answer(BaseModel):
    """Part of an answer; newer servers may say more."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class StateInfo(_Answer):
    generation: int
    observed_generation: int
    error: str | None = None


class ModuleInfo(_Answer):
    """inflight: requests being answered by the module."""

    ref: str
    source: str = ""
    status: str
    error: str | None = None
    forgets: str = ""
    active_on: list[str] = []
    inflight: int = 0
    bytes: int | None = None


class TargetInfo(_Answer):
    modules: list[str]
    weight: float = 1.0
    inflight: int = 0


class ShadowInfo(_Answer):
    modules: list[str]
    share: float


class RouteInfo(_Answer):
    model: str
    targets: list[TargetInfo]
    shadow: ShadowInfo | None = None


class ChangeInfo(RouteInfo):
    generation: int
    observed_generation: int


class AdminClient:
    """Calls that raise Refused and Unreachable. Closed by ``with``."""

    def __init__(self, url: str, key: str, timeout_s: float | None = None) -> None:
        """timeout_s: for an answer; None waits as long as the server takes, which it bounds itself."""
        headers = {"Authorization": f"Bearer {key}"}
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def state(self) -> StateInfo:
        return self._ask(StateInfo, "GET", "/admin/state")

    def modules(self) -> list[ModuleInfo]:
        return self._ask(list[ModuleInfo], "GET", "/admin/modules")

    def resolve(self, ref: str) -> str:
        """The full reference of one of the server's modules; ``base`` as it is. Raises as ``Catalog.get``."""
        return ref if ref == BASE else match_ref(ref, sorted(each.ref for each in self.modules()))

    def add_module(self, source: str, digest: str | None) -> ModuleInfo:
        body = {"source": source} if digest is None else {"source": source, "digest": digest}
        return self._ask(ModuleInfo, "POST", "/admin/modules", body)

    def remove_module(self, ref: str) -> None:
        self._call("DELETE", f"/admin/modules/{quote(ref)}")

    def routes(self) -> list[RouteInfo]:
        return self._ask(list[RouteInfo], "GET", "/admin/routes")

    def put_route(self, model: str, spec: dict[str, Any], generation: int) -> ChangeInfo:
        """Refused with 412 when the server's generation is another one than ``generation``."""
        return self._ask(ChangeInfo, "PUT", f"/admin/routes/{quote(model)}", spec, generation)

    def remove_route(self, model: str) -> None:
        self._call("DELETE", f"/admin/routes/{quote(model)}")

    def roll_back(self, model: str) -> ChangeInfo:
        return self._ask(ChangeInfo, "POST", f"/admin/routes/{quote(model)}/rollback")

    def _ask(self, kind: type[T], method: str, path: str, body: object = None, generation: int | None = None) -> T:
        try:
            return TypeAdapter(kind).validate_json(self._call(method, path, body, generation))
        except ValidationError as err:
            raise Unreachable(f"what is at {self._http.base_url} doesn't answer {path} as Lethe does") from err

    def _call(self, method: str, path: str, body: object = None, generation: int | None = None) -> bytes:
        headers = {} if generation is None else {"If-Match": str(generation)}
        try:
            response = self._http.request(method, path, json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as err:
            raise Unreachable(f"{self._http.base_url} does not answer: {err or type(err).__name__}") from err
        if not response.is_success:
            raise Refused(response.status_code, _message(response))
        return response.content


def _message(response: httpx.Response) -> str:
    """What the server says, or what can be told of something that is no Lethe server."""
    try:
        message: str = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        return f"the server answered {response.status_code} {response.reason_phrase}"
    return message


def spec_of(targets: Sequence[TargetInfo], shadow: ShadowInfo | None) -> dict[str, Any]:
    """A route as ``put_route`` takes it."""
    sent: dict[str, Any] = {"targets": [{**answering(each.modules), "weight": each.weight} for each in targets]}
    if shadow is not None:
        sent["shadow"] = {**answering(shadow.modules), "share": shadow.share}
    return sent


def answering(modules: Sequence[str]) -> dict[str, Any]:
    """What answers: one module, several together, or without any the large model alone."""
    return {"modules": list(modules)} if len(modules) > 1 else {"module": modules[0] if modules else BASE}
