"""What it costs that a server can add two offsets: for requests with one module, and with two, summed or merged.

    python tests/benchmarks/sums.py run --out tests/benchmarks/results/sums.md

Two engines over the benchmark's random models, with one pair of lanes and with two, each in a process of its own. They
answer the same prompts in turns; a row is the middle of the rounds, and its ratio the middle of the rounds' ratios.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

PAIRS = (1, 2)
KINDS = ("no module", "one module", "two modules")
CONCURRENCY = (1, 16)
PROMPT_TOKENS, ANSWER_TOKENS, VOCABULARY = 128, 64, 4096
WORK = Path(tempfile.gettempdir()) / "lethe-sums"
SETTINGS = {"enable_prefix_caching": False, "max_num_seqs": max(CONCURRENCY), "max_model_len": 512}
COLUMNS = ("requests", "at once", "one pair, tokens/s", "two pairs, tokens/s", "ratio", "of the rounds")

INTRODUCTION = f"""\
# What adding two offsets costs

Output tokens per second of an engine that runs one pair of lanes, where two modules are merged, and of one that runs
two (`--max-offsets-per-request 2`), where their offsets are added. Random models of 62.9 and about 4 million weights,
compiled, prompts of {PROMPT_TOKENS} tokens, answers of {ANSWER_TOKENS}, without prefix caching; modules of rank 16 on
every linear layer. Rounds of both engines take turns; the ratio is the middle one of the rounds', beside the least and
the largest. Other jobs had their share of the machine meanwhile: only ratios mean something.
"""

app = typer.Typer(add_completion=False)


def models_in(work: Path) -> Any:
    from lethe_server.bench.models import build_models
    from lethe_server.bench.settings import BenchSettings

    return build_models(BenchSettings(ratios=(16,), modules=2), work)


async def answer_all(engine: Any, loaded: Any, count: int) -> float:
    """Output tokens per second of ``count`` requests at once."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=0.0, max_tokens=ANSWER_TOKENS, ignore_eos=True)
    draw = random.Random(0)

    async def ask() -> None:
        ids = {"prompt_token_ids": [draw.randrange(2, VOCABULARY) for _ in range(PROMPT_TOKENS)]}
        request = None if loaded is None else loaded.request(loaded.name)
        async for _ in engine.client.generate(ids, sampling, f"{draw.random()}-{time.time()}", lora_request=request):
            pass

    began = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(count)))
    return count * ANSWER_TOKENS / (time.perf_counter() - began)


async def serve(work: Path, pairs: int) -> None:
    """One engine: a JSON line for each line of the standard input."""
    from lethe_offsets.merging.merge import merge_modules
    from lethe_offsets.merging.settings import MergeSettings
    from lethe_offsets.module import Module
    from lethe_server.engine.service import OffsetEngine
    from lethe_server.engine.spec import EngineSpec

    models = models_in(work)
    two = [Module.open(path) for path in models.pairs[16].modules[:2]]
    out = Path(tempfile.mkdtemp()) / "merged"
    together = two if pairs > 1 else [merge_modules(two, MergeSettings("cat"), name="merged", out=out)]
    spec = EngineSpec(
        str(models.large),
        str(models.pairs[16].small),
        "sums",
        max_module_rank=32,
        max_offsets_per_request=pairs,
        options=SETTINGS,
    )
    engine = await OffsetEngine.start(spec)
    try:
        loaded = dict(zip(KINDS, (None, await engine.load(two[0]), await engine.load(together)), strict=True))
        while await asyncio.to_thread(sys.stdin.readline):
            found = [[await answer_all(engine, loaded[kind], count) for count in CONCURRENCY] for kind in KINDS]
            print("RESULT", json.dumps(found), flush=True)
    finally:
        await engine.close()


@app.command(hidden=True)
def measure(work: Path, pairs: int) -> None:
    asyncio.run(serve(work, pairs))


def take_turns(work: Path, rounds: int) -> list[list[Any]]:
    """Of each round, by pairs: tokens per second by kind and concurrency. A first round warms up."""
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, "measure", str(work), str(pairs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        for pairs in PAIRS
    ]
    found = []
    for number in range(rounds + 1):
        results = []
        for process in processes if number % 2 else reversed(processes):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            line = next(line for line in process.stdout if line.startswith("RESULT"))
            results.append(json.loads(line.removeprefix("RESULT")))
        found.append(results if number % 2 else results[::-1])
        print(f"round {number} of {rounds}: {found[-1]}", file=sys.stderr)
    for process in processes:
        process.communicate()
    return found[1:]


def rows(found: Sequence[list[Any]]) -> list[list[str]]:
    lines = []
    for kind, name in enumerate(KINDS):
        for place, count in enumerate(CONCURRENCY):
            one, two = ([each[pairs][kind][place] for each in found] for pairs in range(len(PAIRS)))
            ratios = [b / a for a, b in zip(one, two, strict=True)]
            speeds = [f"{statistics.median(one):.0f}", f"{statistics.median(two):.0f}"]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            lines.append([name, str(count), *speeds, f"{statistics.median(ratios):.2f}", spread])
    return lines


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="The table, as Markdown.")],
    work: Annotated[Path, typer.Option(help="Where the models lie.")] = WORK,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
) -> None:
    """Measure both engines in turns."""
    from lethe_server.bench.machine import listed
    from lethe_server.bench.report import markdown

    models_in(work)  # once, not by both engines at a time
    machine = "\n".join(listed())
    command = f"    python tests/benchmarks/sums.py run --out {out}"
    text = f"{INTRODUCTION}\n{markdown(COLUMNS, rows(take_turns(work, rounds)))}\n{machine}\n\n{command}\n"
    print(text)
    out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    app()
