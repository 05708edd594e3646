"""Answers of a fixed length from a server, timed token by token."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import httpx

from lethe_offsets.errors import LetheError
from lethe_offsets.evaluation.completions import STRENGTH_HEADER
from lethe_offsets.evaluation.endpoint import Address

TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Stream:
    """When an answer of ``tokens`` tokens was asked for, began and ended: seconds of one clock."""

    tokens: int
    asked: float
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Pace:
    """tokens_per_s: of all streams together. tpot_s: seconds for each token after the first, the mean of streams."""

    tokens_per_s: float
    tpot_s: float


def pace(streams: Sequence[Stream]) -> Pace:
    """What streams that ran at the same time make together; each has two tokens or more."""
    whole = max(stream.last for stream in streams) - min(stream.asked for stream in streams)
    each = [(stream.last - stream.first) / (stream.tokens - 1) for stream in streams]
    return Pace(sum(stream.tokens for stream in streams) / whole, sum(each) / len(each))


def run_streams(address: Address, prompts: Sequence[list[int]], tokens: int) -> list[Stream]:
    """One answer to each prompt, all at the same time. Raises LetheError where the server doesn't give them."""
    with _client(address) as http, ThreadPoolExecutor(len(prompts)) as pool:
        return list(pool.map(partial(_stream, http, address.model, tokens), prompts))


def _stream(http: httpx.Client, model: str, tokens: int, prompt: list[int]) -> Stream:
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": tokens,
        "temperature": 0.0,
        "ignore_eos": True,
        "stream": True,
    }
    asked, times = time.monotonic(), list[float]()
    try:
        with http.stream("POST", "completions", json=body) as response:
            if response.is_error:
                raise LetheError(f"{response.url}: {response.status_code}, {response.read().decode()[:300]}")
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    times.append(time.monotonic())
    except httpx.TransportError as err:
        raise LetheError(f"{http.base_url} broke off a stream: {err}") from err
    if len(times) < 2:
        raise LetheError(f"{http.base_url} streamed {len(times)} parts of an answer of {tokens} tokens")
    return Stream(tokens, asked, times[0], times[-1])


@contextmanager
def _client(address: Address) -> Iterator[httpx.Client]:
    url = address.url.rstrip("/")
    headers = {} if address.api_key is None else {"Authorization": f"Bearer {address.api_key}"}
    if address.strength is not None:
        headers[STRENGTH_HEADER] = f"{address.strength:g}"
    with httpx.Client(base_url=url if url.endswith("/v1") else f"{url}/v1", headers=headers, timeout=TIMEOUT_S) as http:
        yield http
