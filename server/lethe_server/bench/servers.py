"""The servers that are measured, as processes: plain vLLM, Lethe, and vLLM with the sampling-time processor."""

from __future__ import annotations

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lethe_offsets.errors import LetheError
from lethe_server.bench.load import run_load
from lethe_server.bench.models import ADAPTER_RANK, Pair, module_name
from lethe_server.bench.process import free_port, log_end, spawned
from lethe_server.bench.settings import BenchSettings
from lethe_server.bench.shapes import context, small_shape

NAME = "bench"
START_S = 900.0
CHUNK = 4096  # tokens of one engine step
SPARE = 1.1  # of the KV cache, for blocks that are not full
PROCESSOR = "lethe_server.bench.processor:PairProcessor"


@dataclass(frozen=True)
class Server:
    """A server that answers. start_s: from its spawning to its first answer."""

    url: str
    pid: int
    start_s: float


def kv_tokens(settings: BenchSettings, factor: int = 1) -> int:
    """Tokens that the largest cell keeps, times ``factor``; vLLM wants room for one request of the full context."""
    blocks = 128 * settings.max_requests  # the CPU's block size: each request's last block may hold one token
    largest = max(c.concurrency * (c.prompt + settings.output_tokens) for c in settings.cells())
    return factor * max(largest + blocks, context(settings.tiny))


def kv_bytes(settings: BenchSettings, ratio: int | None) -> int:
    """Room for the largest cell in the large model's cache, and in the lanes' where there is a pair."""
    token = settings.large.kv_numbers + (2 * small_shape(ratio, settings.tiny).kv_numbers if ratio else 0)
    return round(SPARE * settings.number_bytes * token * kv_tokens(settings))


def engine_arguments(settings: BenchSettings, ratio: int | None) -> list[str]:
    """Options that every server is given alike; each has room for the same number of tokens."""
    return [
        *("--dtype", settings.dtype, "--max-model-len", str(context(settings.tiny))),
        *("--max-num-seqs", str(settings.max_requests), "--max-num-batched-tokens", str(CHUNK)),
        *("--kv-cache-memory-bytes", str(kv_bytes(settings, ratio)), "--no-enable-prefix-caching"),
        *(("--enforce-eager",) if settings.eager else ()),
        "--disable-uvicorn-access-log",
    ]


def plain_command(settings: BenchSettings, large: Path) -> list[str]:
    """vLLM's own server; its console script is broken under the distribution for the CPU."""
    module = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(large)]
    return [*module, "--served-model-name", NAME, *engine_arguments(settings, None)]


def processor_command(settings: BenchSettings, large: Path, pair: Pair) -> list[str]:
    """Plain vLLM with the two Hugging Face models in its engine process."""
    lanes = {"bench_pair": {"small": str(pair.small), "plus": str(pair.adapters[0]), "minus": None, "strength": 1.0}}
    return [
        *plain_command(settings, large),
        *("--logits-processors", PROCESSOR, "--additional-config", json.dumps(lanes)),
    ]


def lethe_command(settings: BenchSettings, ratio: int, large: Path, pair: Pair, modules: int = 1) -> list[str]:
    """``lethe serve``; with several modules, each has a route of its name and all fit one batch."""
    chosen = [argument for path in pair.modules[:modules] for argument in ("--module", str(path))]
    names = [module_name(i) for i in range(modules)]
    many = [argument for name in names for argument in ("--route", f"{name}={name}")]
    routes = ["--served-model-name", NAME] if modules == 1 else [*many, "--max-modules-per-batch", str(modules)]
    serve = [sys.executable, "-m", "lethe_offsets.cli", "serve", "--model", str(large)]
    rank = ("--max-module-rank", str(ADAPTER_RANK))
    return [*serve, "--small-model", str(pair.small), *chosen, *routes, *rank, *engine_arguments(settings, ratio)]


@contextmanager
def serving(command: Sequence[str], model: str, cache: Path, log: Path) -> Iterator[Server]:
    """The server of ``command`` once it has answered a request. Raises LetheError with its log's end when it can't."""
    port = free_port()
    began = time.perf_counter()
    with spawned([*command, "--host", "127.0.0.1", "--port", str(port)], cache, log) as process:
        url = f"http://127.0.0.1:{port}"
        while not _healthy(url):
            if process.poll() is not None or time.perf_counter() - began > START_S:
                raise LetheError(f"{command[2]} did not start; {log} ends with:\n{log_end(log)}")
            time.sleep(0.05)
        run_load(url, [model], [[[2, 3, 4]]], 2)
        yield Server(url, process.pid, time.perf_counter() - began)


def _healthy(url: str) -> bool:
    """Both servers answer /health only once their models are loaded."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
