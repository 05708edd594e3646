"""Load on a server over HTTP, by the request function of vLLM's own benchmark client."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from itertools import accumulate

import aiohttp
from vllm.benchmarks.lib.endpoint_request_func import RequestFuncInput, async_request_openai_completions

from lethe_offsets.errors import LetheError
from lethe_server.bench.measurement import Measurement, Times, measure
from lethe_server.bench.settings import Cell

MOST_WAVES = 2
CELL_TOKENS = 8192  # of prompts and answers, up to which a turn sends a second wave


def prompts(cell: Cell, vocabulary: int, seed: int) -> list[list[int]]:
    """One prompt of random token ids for each client; the same for every system that is given the same seed."""
    draw = random.Random(f"{seed} {cell}")
    return [[draw.randrange(2, vocabulary) for _ in range(cell.prompt)] for _ in range(cell.concurrency)]


def waves_of(cell: Cell, vocabulary: int, seed: int, output_tokens: int) -> list[list[list[int]]]:
    """Prompts of one turn in a cell by wave, no two alike."""
    count = CELL_TOKENS // (cell.concurrency * (cell.prompt + output_tokens))
    return [prompts(cell, vocabulary, 1000 * seed + wave) for wave in range(max(1, min(count, MOST_WAVES)))]


def run_load(url: str, models: Sequence[str], waves: Sequence[Sequence[list[int]]], output_tokens: int) -> Measurement:
    """Send each wave's prompts at once; request i asks for ``models[i % len(models)]``.

    Raises LetheError with the server's words for a request that failed.
    """
    return asyncio.run(_run(url, models, waves, output_tokens))


async def _run(
    url: str, models: Sequence[str], waves: Sequence[Sequence[list[int]]], output_tokens: int
) -> Measurement:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=1800)) as session:
        done = []
        for wave in waves:
            sent = (
                _send(session, url, models[i % len(models)], prompt, output_tokens) for i, prompt in enumerate(wave)
            )
            done.append(await asyncio.gather(*sent))
    return measure(done)


async def _send(session: aiohttp.ClientSession, url: str, model: str, prompt: list[int], output_tokens: int) -> Times:
    request = RequestFuncInput(
        prompt=prompt,
        api_url=f"{url}/v1/completions",
        prompt_len=len(prompt),
        output_len=output_tokens,
        model=model,
        ignore_eos=True,
        extra_body={"temperature": 0.0},
    )
    answer = await async_request_openai_completions(request, session)
    if not answer.success or answer.output_tokens != output_tokens:
        raise LetheError(f"{url} gave {answer.output_tokens} of {output_tokens} tokens: {answer.error[-500:]}")
    first = answer.start_time + answer.ttft
    return Times(answer.start_time, tuple(accumulate(answer.itl, initial=first)), answer.output_tokens)
