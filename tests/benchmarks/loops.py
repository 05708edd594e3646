"""How often answers run in a loop, at which strength, with and without pinned special tokens.

    python tests/benchmarks/loops.py --case NAME=LARGE,SMALL,MODULE,QUESTIONS --out tests/benchmarks/results/loops.md

Each case is a large and a small model, a module for them, and JSON lines with a question each. All answers are the most
probable ones, of at most 200 tokens, in process.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from vllm.sampling_params import RepetitionDetectionParams
from vllm.v1.core.sched.utils import check_sequence_repetition

from lethe_offsets import load_module
from lethe_offsets.beside import ensemble_beside
from lethe_offsets.evaluation.encode import encode_prompt
from lethe_offsets.evaluation.generation import generate
from lethe_offsets.pair import Rule
from lethe_offsets.training.progress import silent
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer
from lethe_server.bench.machine import listed
from lethe_server.bench.report import markdown

STRENGTHS = (1.0, 1.5, 2.0)
MAX_TOKENS = 200
LONGEST, COUNT = 32, 4  # a loop: the last tokens are one pattern of up to 32 tokens, four times in a row
COLUMNS = ("case", "strength", "special tokens", "answers", "in a loop", "at 200 tokens", "tokens, mean")

INTRODUCTION = f"""\
# Answers that run in a loop

The most probable answers of at most {MAX_TOKENS} tokens. In a loop: somewhere the last tokens are one pattern of up to
{LONGEST} tokens, {COUNT} times in a row; there `--loop-tokens {LONGEST}` ends an answer. Pinned: special tokens keep
the large model's probability.

demo: the module and the models of `lethe demo`, and its reworded questions. TOFU: the models that
`lethe reproduce tofu` makes for forget10, modules by `lethe train --method npo` (or `undial`) `--lr 1e-3 --epochs 5`,
and the first 60 questions of forget10 and of retain90.
"""


def loops(tokens: Sequence[int]) -> bool:
    """Whether the engine's guard would end the answer somewhere."""
    guard = RepetitionDetectionParams(max_pattern_size=LONGEST, min_count=COUNT)
    return any(check_sequence_repetition(tokens[:end], guard) for end in range(1, len(tokens) + 1))


def variants(rule: Rule) -> Iterator[tuple[Rule, str, str]]:
    for strength in STRENGTHS:
        for pinned in (False, True):
            yield replace(rule, strength=strength, pin_special=pinned), f"{strength:g}", "pinned" if pinned else "free"


def measure(name: str, large: str, small: str, module: str, questions: str, console: Console) -> Iterator[list[str]]:
    """Rows of the table."""
    model, tokenizer = load_model(large), load_tokenizer(large)
    lines = Path(questions).read_text(encoding="utf-8").splitlines()
    prompts = [encode_prompt(tokenizer, json.loads(line)["question"]) for line in lines]
    beside = ensemble_beside(model, tokenizer, small, load_module(module))
    cases = [(ReferenceEnsemble.plain(model), "no module", "")]
    cases += [(replace(beside, rule=rule), strength, special) for rule, strength, special in variants(beside.rule)]
    for ensemble, strength, special in cases:
        found = generate(ensemble, prompts, [tokenizer.eos_token_id], MAX_TOKENS, 1, 0.0, 0, silent)
        answers = [answer for (answer,) in found]
        looped = sum(map(loops, answers)) / len(answers)
        whole = sum(len(answer) == MAX_TOKENS for answer in answers) / len(answers)
        row = [name, strength, special, str(len(answers)), f"{looped:.1%}", f"{whole:.1%}"]
        yield [*row, f"{statistics.fmean(map(len, answers)):.1f}"]
        console.print(*row)


def run(
    case: Annotated[list[str], typer.Option(help="NAME=LARGE,SMALL,MODULE,QUESTIONS; repeatable.")],
    out: Annotated[Path, typer.Option(help="The table, as Markdown.")],
) -> None:
    console = Console()
    torch.manual_seed(0)
    rows: list[list[str]] = []
    for each in case:
        name, _, places = each.partition("=")
        large, small, module, questions = places.split(",")
        rows += measure(name, large, small, module, questions, console)
    machine = "\n".join(listed())
    out.write_text(f"{INTRODUCTION}\n{markdown(COLUMNS, rows)}\n{machine}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(run)
