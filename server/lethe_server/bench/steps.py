"""One engine with its steps timed from inside, in a process of its own.

``python -m lethe_server.bench.steps ORDER RESULT``: both are JSON files, an :class:`Order` and what :func:`summary`
gives for each cell.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lethe_offsets.module import Module
from lethe_server.bench.engines import open_pair, open_plain
from lethe_server.bench.load import prompts
from lethe_server.bench.process import log_end, spawned
from lethe_server.bench.settings import Cell
from lethe_server.bench.timer import MODEL, PAIR, Step
from lethe_server.errors import StartupFailed

DECODE_TOKENS = 12  # enough steps for a median


@dataclass(frozen=True)
class Order:
    """model alone, or with ``small`` and ``module`` as Lethe holds them. options: vLLM's, by name.

    profile: take an operator profile of decode steps of this cell. between: bytes that another model's weights have;
    each cell is timed a second time with so much read before each step, the ``cold`` decode.
    """

    model: str
    options: dict[str, Any]
    cells: tuple[Cell, ...]
    vocabulary: int
    small: str | None = None
    module: str | None = None
    profile: Cell | None = None
    between: int = 0


def time_steps(order: Order, folder: Path, cache: Path) -> dict[str, Any]:
    """Run the order in a process below ``folder``. Raises StartupFailed with its log's end when it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    asked, result, log = folder / "order.json", folder / "result.json", folder / "log.txt"
    asked.write_text(json.dumps(asdict(order)), encoding="utf-8")
    with spawned([sys.executable, "-m", "lethe_server.bench.steps", str(asked), str(result)], cache, log) as process:
        if process.wait():
            raise StartupFailed(f"the timed engine failed; {log} ends with:\n{log_end(log)}")
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def summary(steps: Sequence[Step], rows: int) -> dict[str, float | None]:
    """Seconds. prefill: all of the model's time before every request decodes; decode: the model's time in a step of
    ``rows`` requests, its head included; step: from such a step to the next; pair: the pair's time in one (median).
    """
    full = [step for step in steps if step.decode and step.rows == rows]
    between = [b.began - a.began for a, b in pairwise(steps) if a in full and b in full]
    pair = [step.parts[PAIR] for step in full if PAIR in step.parts]
    return {
        "prefill": sum(step.parts[MODEL] for step in steps if not step.decode),
        "decode": statistics.median(step.parts[MODEL] for step in full) if full else None,
        "step": statistics.median(between) if between else None,
        "pair": statistics.median(pair) if pair else None,
    }


def _run(order: Order, folder: Path) -> dict[str, Any]:
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    if order.small is None or order.module is None:
        engine, adapter = open_plain(order.model, order.options, timed=True), None
    else:
        module = Module.open(Path(order.module))
        engine, adapter = open_pair(order.model, order.small, module, folder, order.options, timed=True)
    engine.collective_rpc("bench_watch")
    greedy = SamplingParams(temperature=0.0, max_tokens=DECODE_TOKENS, ignore_eos=True)

    def generate(cell: Cell) -> None:
        ids = prompts(cell, order.vocabulary, seed=7)
        batch = [TokensPrompt(prompt_token_ids=prompt) for prompt in ids]
        engine.generate(batch, greedy, lora_request=adapter, use_tqdm=False)

    def seen() -> list[Step]:
        return [Step(*step) for step in engine.collective_rpc("bench_steps")[0]]

    generate(Cell(1, 4))
    found: dict[str, Any] = {"cells": []}
    for cell in order.cells:
        engine.collective_rpc("bench_begin", args=(cell.prompt,))
        generate(cell)
        times = summary(seen(), cell.concurrency)
        if order.between:
            engine.collective_rpc("bench_begin", args=(cell.prompt, 0, order.between))
            generate(cell)
            times["cold"] = summary(seen(), cell.concurrency)["decode"]
        found["cells"].append(times)
    if order.profile is not None:
        engine.collective_rpc("bench_begin", args=(order.profile.prompt, order.profile.concurrency))
        generate(order.profile)
        found["profile"] = engine.collective_rpc("bench_profile")[0]
    return found


def main() -> None:
    asked, result = (Path(argument) for argument in sys.argv[1:])
    values = json.loads(asked.read_text(encoding="utf-8"))
    cells = tuple(Cell(**cell) for cell in values["cells"])
    profiled = Cell(**values["profile"]) if values["profile"] else None
    order = Order(**values | {"cells": cells, "profile": profiled})
    with tempfile.TemporaryDirectory(prefix="lethe-bench-") as folder:
        result.write_text(json.dumps(_run(order, Path(folder) / "adapter")), encoding="utf-8")


if __name__ == "__main__":
    main()
