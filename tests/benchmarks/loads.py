"""What loading modules does to the streams that the engine is answering meanwhile, and what it leaves in memory.

    python tests/benchmarks/loads.py --out tests/benchmarks/results/loads.md

Streams run all the time on one module of random models (63 million parameters, a small one of 1/16). Windows without
and with loads alternate in one run; in the second kind modules are loaded and unloaded one behind the other. Each gap
between two tokens of a stream counts for the window in which it ended.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WINDOWS = 5  # of each kind
LOADS = 20  # in each window with loads
MEMORY_LOADS = 200
MODULES = 8
PROMPT, OUTPUT = 64, 256  # tokens


@dataclass
class Gaps:
    """Seconds between a stream's tokens: without and with loads."""

    without: list[float] = field(default_factory=list)
    with_loads: list[float] = field(default_factory=list)
    loading: bool = False

    def add(self, seconds: float) -> None:
        (self.with_loads if self.loading else self.without).append(seconds)


async def stream(engine: Any, loaded: Any, gaps: Gaps, seed: int) -> None:
    """One client: one answer after the other until it is cancelled."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=OUTPUT, ignore_eos=True)
    for number in itertools.count():
        prompt = [2 + (seed * 7919 + number * 104729 + i * 31) % 4000 for i in range(PROMPT)]
        last = None
        async for _ in engine.client.generate(
            {"prompt_token_ids": prompt}, params, f"stream-{seed}-{number}", lora_request=loaded.request(loaded.name)
        ):
            now = time.perf_counter()
            if last is not None:
                gaps.add(now - last)
            last = now


async def measure(engine: Any, modules: list[Any], streams: int, seconds: float) -> tuple[Gaps, list[float]]:
    """The gaps, and how long each load took. modules: the first one answers, the others come and go."""
    gaps, loads = Gaps(), []
    answering = await engine.load(modules[0])
    clients = [asyncio.create_task(stream(engine, answering, gaps, seed)) for seed in range(streams)]
    await asyncio.sleep(5.0)
    gaps.without.clear()
    others = itertools.cycle(modules[1:])
    for _ in range(WINDOWS):
        gaps.loading = False
        await asyncio.sleep(seconds)
        gaps.loading = True
        for _ in range(LOADS):
            loaded = await engine.load(next(others))
            loads.append(loaded.seconds)
            await engine.unload(loaded)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    await engine.unload(answering)
    return gaps, loads


async def leftover(engine: Any, modules: list[Any]) -> tuple[float, float]:
    """MiB that engine and server hold before and after ``MEMORY_LOADS`` loads and unloads."""
    from lethe_server.bench.memory import host_mib

    held = []
    others = itertools.cycle(modules)
    for count in (MEMORY_LOADS // 10, MEMORY_LOADS):  # the first ones warm the allocator up
        for _ in range(count):
            await engine.unload(await engine.load(next(others)))
        held.append(host_mib(os.getpid()))
    return held[0], held[1]


def percentile(values: list[float], share: float) -> float:
    """Milliseconds."""
    return 1e3 * statistics.quantiles(values, n=1000, method="inclusive")[round(share * 1000) - 1]


def report(gaps: Gaps, loads: list[float], memory: tuple[float, float], streams: int) -> str:
    from lethe_server.bench import machine

    lines = ["# Loading modules under traffic", ""]
    lines += machine.listed()
    lines += ["", "    python tests/benchmarks/loads.py --out tests/benchmarks/results/loads.md", ""]
    lines += [
        f"{streams} streams; {len(loads)} loads, one behind the other, of {statistics.median(loads):.2f} s (median).",
        "",
    ]
    lines += ["| time per output token | without loads, ms | with loads, ms | ratio |", "|---|---|---|---|"]
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        plain, busy = percentile(gaps.without, share), percentile(gaps.with_loads, share)
        lines.append(f"| {name} | {plain:.1f} | {busy:.1f} | {busy / plain:.2f} |")
    lines.append(f"| tokens | {len(gaps.without)} | {len(gaps.with_loads)} | |")
    before, after = memory
    lines += ["", f"Memory before and after {MEMORY_LOADS} loads and unloads: {before:.0f} and {after:.0f} MiB."]
    return "\n".join(lines) + "\n"


async def run(work: Path, streams: int, seconds: float, eager: bool) -> str:
    from lethe_offsets.module import Module
    from lethe_server.bench.models import build_models
    from lethe_server.bench.settings import BenchSettings
    from lethe_server.engine.service import OffsetEngine
    from lethe_server.engine.spec import EngineSpec

    models = build_models(BenchSettings(ratios=(16,), modules=MODULES), work)
    pair = models.pairs[16]
    modules = [Module.open(path) for path in pair.modules]
    options: dict[str, Any] = {"max_num_seqs": 16, "max_model_len": 512, "enforce_eager": eager}
    engine = await OffsetEngine.start(
        EngineSpec(str(models.large), str(pair.small), "loads", max_module_rank=16, options=options)
    )
    try:
        gaps, loads = await measure(engine, modules, streams, seconds)
        memory = await leftover(engine, modules)
    finally:
        await engine.close()
    return report(gaps, loads, memory, streams)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lethe-loads")
    parser.add_argument("--streams", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each window without loads")
    parser.add_argument("--eager", action="store_true", help="don't compile the models")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    text = asyncio.run(run(chosen.work, chosen.streams, chosen.seconds, chosen.eager))
    print(text)
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
