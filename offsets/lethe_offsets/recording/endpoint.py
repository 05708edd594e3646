"""A model behind an OpenAI-compatible server, asked for the log-probabilities of a prompt's tokens."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from lethe_offsets.errors import InvalidInput, LetheError

RETRIES = 6
FIRST_WAIT_S = 0.5  # doubled at each retry
MAX_WAIT_S = 30.0
TIMEOUT = httpx.Timeout(600.0, connect=10.0)  # seconds; a long queue at the server is no error
MAY_PASS = (408, 429, 500, 502, 503, 504)
SHOWN = 300  # characters of a server's message
CAP = re.compile(r"logprobs.*(?:max allowed: |accepted: 0 to )(\d+)")  # vLLM's words, and Lethe's to a client


class Endpoint:
    """An asynchronous context. url: with or without ``/v1``. model: the name to ask for."""

    def __init__(self, url: str, model: str, api_key: str | None = None) -> None:
        base = url.rstrip("/")
        self.url = base if base.endswith("/v1") else f"{base}/v1"
        self.model = model
        self._has_key = api_key is not None
        headers = {"Authorization": f"Bearer {api_key}"} if api_key is not None else {}
        try:
            self._http = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=TIMEOUT)
        except (httpx.InvalidURL, UnicodeEncodeError) as err:
            raise InvalidInput("url", url, f"an address such as http://127.0.0.1:8000 ({err})") from err

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def prompt_logprobs(self, ids: Sequence[int], top_k: int) -> list[Any]:
        """One entry for each token of ``ids``; the first is None.

        Raises InvalidInput for an address, key, model name or ``top_k`` that the server doesn't take and for a server
        that doesn't return prompt log-probabilities; LetheError for one that keeps failing.
        """
        body = {
            "model": self.model,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": top_k,
        }
        response = await self._post(body)
        if not response.is_success:
            raise await self._refusal(response, top_k)
        try:
            entries = response.json()["choices"][0]["prompt_logprobs"]
        except (ValueError, LookupError, TypeError):
            entries = None
        if not isinstance(entries, list):
            raise InvalidInput("url", self.url, "a server that returns prompt_logprobs, as vLLM does; it returned none")
        if len(entries) != len(ids):
            accepted = "a server that takes token ids as they are"
            raise InvalidInput("url", self.url, f"{accepted}; {len(ids)} of them came back as {len(entries)}")
        return entries

    async def _post(self, body: dict[str, Any]) -> httpx.Response:
        """The answer, asked for again while the reason not to give one may pass."""
        failure = ""
        for retry in range(RETRIES + 1):
            if retry:
                await asyncio.sleep(min(MAX_WAIT_S, FIRST_WAIT_S * 2 ** (retry - 1)))
            try:
                response = await self._http.post("/completions", json=body)
            except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.InvalidURL) as err:
                raise InvalidInput("url", self.url, f"a server that can be reached ({err})") from err
            except httpx.TransportError as err:
                failure = str(err) or type(err).__name__
                continue
            if response.status_code not in MAY_PASS:
                return response
            failure = f"{response.status_code}, {_message(response)}"
        raise LetheError(f"{self.url} failed {RETRIES + 1} times: {failure}")

    async def _refusal(self, response: httpx.Response, top_k: int) -> InvalidInput:
        status, message = response.status_code, _message(response)
        if status in (401, 403):
            given = "a key that is refused" if self._has_key else "no key"
            return InvalidInput("api key", given, f"one for {self.url}: {message}")
        if status == 404:
            return await self._not_found(message)
        if cap := CAP.search(message):
            limit = "this server's limit (vLLM: --max-logprobs; Lethe: the key's bound)"
            return InvalidInput("top_k", top_k, f"at most {cap[1]}, {limit}")
        return InvalidInput("url", self.url, f"a server that answers requests for prompt_logprobs: {status}, {message}")

    async def _not_found(self, message: str) -> InvalidInput:
        """The model is unknown, or there is no such server: one that lists its models has told which."""
        try:
            listed = (await self._http.get("/models")).raise_for_status().json()["data"]
            names = ", ".join(str(model["id"]) for model in listed)
        except (httpx.HTTPError, ValueError, LookupError, TypeError):
            return InvalidInput("url", self.url, f"the address of an OpenAI-compatible server: 404, {message}")
        return InvalidInput("model", self.model, f"one of {names}" if names else message)


def _message(response: httpx.Response) -> str:
    """What the server says about an error, cut short."""
    try:
        body = response.json()
        text = body["error"]["message"] if "error" in body else body["message"]
    except (ValueError, LookupError, TypeError):
        text = response.text
    return str(text).strip()[:SHOWN]
