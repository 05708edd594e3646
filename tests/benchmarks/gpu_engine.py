"""One engine of the GPU benchmark, in a process of its own: ``python gpu_engine.py ORDER RESULT``, JSON files."""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lethe_offsets.module import Module
from lethe_server.bench.engines import open_pair, open_plain
from lethe_server.bench.memory import memory


def measure(order: dict[str, Any], folder: Path) -> dict[str, Any]:
    began = time.perf_counter()
    if order["module"] is None:
        engine, adapter = open_plain(order["model"], order["options"], timed=False), None
    else:
        module = Module.open(Path(order["module"]))
        engine, adapter = open_pair(order["model"], order["small"], module, folder, order["options"], timed=False)
    start = time.perf_counter() - began
    steps = {str(rows): decode_steps(engine, adapter, rows, order) for rows in order["concurrency"]}
    return {"start_s": start, **memory(os.getpid()), "steps": steps}


def decode_steps(engine: Any, adapter: Any, rows: int, order: dict[str, Any]) -> dict[str, float]:
    """step_s: one decode step, from the difference of a long and a short run of the same prompts, which leaves
    reading the prompts out. spread: of the rounds, as a fraction. tokens_per_s: of the long run, prompts included.
    """
    short, long = order["short"], order["long"]
    run(engine, adapter, rows, short, order, seed=0)
    steps, speeds = [], []
    for number in range(order["rounds"]):
        took = {tokens: run(engine, adapter, rows, tokens, order, seed=number) for tokens in (short, long)}
        steps.append((took[long] - took[short]) / (long - short))
        speeds.append(rows * long / took[long])
    middle = statistics.median(steps)
    return {"step_s": middle, "spread": (max(steps) - min(steps)) / middle, "tokens_per_s": statistics.median(speeds)}


def run(engine: Any, adapter: Any, rows: int, tokens: int, order: dict[str, Any], seed: int) -> float:
    """Seconds for ``rows`` requests of random ids."""
    from vllm import SamplingParams
    from vllm.inputs import TokensPrompt

    draw = random.Random(f"{seed} {rows}")
    prompts = [[draw.randrange(2, order["vocabulary"]) for _ in range(order["prompt"])] for _ in range(rows)]
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
    began = time.perf_counter()
    batch = [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
    answers = engine.generate(batch, params, lora_request=adapter, use_tqdm=False)
    took = time.perf_counter() - began
    given = {len(answer.outputs[0].token_ids) for answer in answers}
    if given != {tokens}:
        raise RuntimeError(f"answers of {given} tokens instead of {tokens}")
    return took


def main() -> None:
    asked, result = (Path(argument) for argument in sys.argv[1:])
    order = json.loads(asked.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="lethe-bench-") as folder:
        result.write_text(json.dumps(measure(order, Path(folder) / "adapter")), encoding="utf-8")


if __name__ == "__main__":
    main()
