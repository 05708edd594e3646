"""From data and an endpoint to a recording."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lethe_offsets.digests import tokenizer_digest
from lethe_offsets.errors import InvalidInput
from lethe_offsets.recording.answers import answer_rows
from lethe_offsets.recording.data import merged
from lethe_offsets.recording.endpoint import Endpoint
from lethe_offsets.recording.file import Recording
from lethe_offsets.recording.partial import Partial
from lethe_offsets.training.data import Example
from lethe_offsets.training.progress import Report, silent


def record(
    url: str,
    model: str,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    top_k: int,
    *,
    api_key: str | None,
    concurrency: int,
    report: Report = silent,
) -> Recording:
    """Ask for the log-probabilities of ``examples``, encoded by the large model's ``tokenizer``, and write ``out``.

    concurrency: requests at the same time. What is recorded lies in ``<out>.partial`` until everything is; after an
    interruption the same call goes on.

    Raises InvalidInput as ``Endpoint.prompt_logprobs``, ``answer_rows`` and ``Partial.open`` do, and for a ``top_k``
    beyond the vocabulary.
    """
    if not 1 <= top_k <= len(tokenizer):
        raise InvalidInput("top_k", top_k, f"1 to {len(tokenizer)}, the tokenizer's vocabulary")
    partial = Partial.open(out, model, tokenizer_digest(tokenizer), top_k)
    wanted = merged(examples)
    asyncio.run(_fetch(Endpoint(url, model, api_key), partial, wanted, concurrency, report))
    partial.finish(wanted)
    return Recording.open(out)


async def _fetch(
    endpoint: Endpoint, partial: Partial, wanted: Sequence[Example], concurrency: int, report: Report
) -> None:
    """Keep all that is wanted. The first answer is waited for alone: it shows what is wrong before anything is kept."""
    missing = [example for example in wanted if not partial.holds(example)]
    done, top_k = len(wanted) - len(missing), partial.header.top_k

    async def ask(examples: Iterator[Example]) -> None:
        nonlocal done
        for example in examples:  # shared: each task takes the next
            entries = await endpoint.prompt_logprobs(example.ids, top_k)
            partial.keep(example, answer_rows(entries, example, top_k))
            done += 1
            report("recorded answers", done, len(wanted))

    report("recorded answers", done, len(wanted))
    queue = iter(missing[1:])
    async with endpoint:
        await ask(iter(missing[:1]))
        await asyncio.gather(*(ask(queue) for _ in range(concurrency)))
