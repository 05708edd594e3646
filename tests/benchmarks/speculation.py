"""Speculative decoding with the small model as draft, on the demo's trained models: speed and acceptance.

    python tests/benchmarks/speculation.py --out tests/benchmarks/results/speculation.md

Answers all questions of the demo's world with plain vLLM, with Lethe and with Lethe drafting; each engine has a process
of its own, all run in turns, and the middle of ``ROUNDS`` rounds counts. Answers must be the same with and without
drafts. The world is built first unless ``--world`` holds one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROUNDS = 3
CONCURRENCY = (1, 16)
DRAFTS = (1, 2, 4)
MAX_TOKENS = 32
RULES = ("plain vLLM", "Lethe", *(f"Lethe, {drafts} drafted" for drafts in DRAFTS))


def measure(world: Path, drafts: int | None) -> None:
    """One engine: prints a JSON line for each round. drafts: None is the large model alone."""
    from vllm import LLM, SamplingParams

    from lethe_offsets.demo.build import build_world
    from lethe_offsets.demo.evaluate import read_questions
    from lethe_offsets.module import Module
    from lethe_offsets.training.reference import load_tokenizer
    from lethe_server.bench.engines import open_pair

    demo = build_world(world)
    options: dict[str, Any] = {"dtype": "float32", "max_num_seqs": max(CONCURRENCY), "enable_prefix_caching": False}
    options |= {"max_model_len": 128, "disable_log_stats": False}
    folder = Path(tempfile.mkdtemp())
    adapter = None
    if drafts is None:
        engine = LLM(model=str(demo.large), **options)
    else:
        module = Module.open(demo.module)
        engine, adapter = open_pair(
            str(demo.large), str(demo.small), module, folder, options, timed=False, draft_tokens=drafts
        )
    tokenizer = load_tokenizer(demo.large)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": question.question}], add_generation_prompt=True, return_dict=False
        )
        for question in read_questions(demo.facts)
    ]
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_TOKENS)
    for number in range(ROUNDS + 1):  # the first warms up
        sys.stdin.readline()
        result: dict[str, Any] = {}
        for concurrency in CONCURRENCY:
            began, tokens, answers = time.perf_counter(), 0, []
            for start in range(0, len(prompts), concurrency):
                batch = [{"prompt_token_ids": prompt} for prompt in prompts[start : start + concurrency]]
                for output in engine.generate(batch, sampling, lora_request=adapter, use_tqdm=False):
                    answers.append(list(output.outputs[0].token_ids))
                    tokens += len(answers[-1])
            result[str(concurrency)] = {"tokens_per_second": tokens / (time.perf_counter() - began)}
        counted = {metric.name: getattr(metric, "value", 0) for metric in engine.get_metrics()}
        result["drafted"] = counted.get("vllm:spec_decode_num_draft_tokens", 0)
        result["accepted"] = counted.get("vllm:spec_decode_num_accepted_tokens", 0)
        result["answers"] = answers
        print("RESULT", number, json.dumps(result), flush=True)


def run(world: Path) -> dict[str, list[dict[str, Any]]]:
    """Results of every engine's counted rounds, taken in turns."""
    arguments = [None, 0, *DRAFTS]
    engines = {
        rule: subprocess.Popen(
            [sys.executable, __file__, "--world", str(world), "--measure", str(drafts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"},
        )
        for rule, drafts in zip(RULES, arguments, strict=True)
    }
    found: dict[str, list[dict[str, Any]]] = {rule: [] for rule in RULES}
    for number in range(ROUNDS + 1):
        for rule, process in engines.items():
            print(f"round {number} of {ROUNDS}: {rule}", file=sys.stderr)
            process.stdin.write("go\n")
            process.stdin.flush()
            line = next(line for line in process.stdout if line.startswith("RESULT"))
            if number:
                found[rule].append(json.loads(line.split(maxsplit=2)[2]))
    for process in engines.values():
        process.stdin.close()
        process.wait()
    return found


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    from lethe_server.bench import machine

    def speed(rule: str, concurrency: int) -> float:
        return statistics.median(result[str(concurrency)]["tokens_per_second"] for result in found[rule])

    lines = ["# Speculative decoding on the demo's models", ""]
    lines += machine.listed()
    lines += ["", "    python tests/benchmarks/speculation.py --out tests/benchmarks/results/speculation.md", ""]
    heads = [f"tokens/s at {concurrency}, of plain's" for concurrency in CONCURRENCY]
    lines += [
        f"| engine | {' | '.join(heads)} | drafts accepted | answers as without drafts |",
        "|---|---|---|---|---|",
    ]
    for rule in RULES:
        last = found[rule][-1]
        ratios = [f"{speed(rule, c):.0f} ({speed(rule, c) / speed(RULES[0], c):.2f})" for c in CONCURRENCY]
        accepted = f"{last['accepted'] / last['drafted']:.2f}" if last["drafted"] else ""
        same = "" if rule in RULES[:2] else ("yes" if last["answers"] == found["Lethe"][-1]["answers"] else "NO")
        lines.append(f"| {rule} | {' | '.join(ratios)} | {accepted} | {same} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, default=Path(tempfile.gettempdir()) / "lethe-demo-world")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure is not None:
        measure(chosen.world, None if chosen.measure == "None" else int(chosen.measure))
        return
    from lethe_offsets.demo.build import build_world

    build_world(chosen.world)
    text = table(run(chosen.world))
    print(text)
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
