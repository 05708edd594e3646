"""Whether the size of an offset tells prompts about what is to be forgotten from all others.

    python tests/benchmarks/gate.py --case NAME=LARGE,SMALL,MODULE,FORGET,OTHER... --out gate.md

A case names three directories and files of questions: JSON lines with ``question`` each, the first to forget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated

import torch
import typer
from rich.console import Console

from lethe_offsets import load_module
from lethe_offsets.evaluation.axes.attacks import auc
from lethe_offsets.evaluation.encode import encode_prompt
from lethe_offsets.evaluation.generation import generate
from lethe_offsets.pair import divergence
from lethe_offsets.training.progress import silent
from lethe_offsets.training.reference import ReferenceEnsemble, load_lanes, load_model, load_tokenizer
from lethe_server.bench.machine import listed
from lethe_server.bench.report import markdown

MAX_TOKENS = 48
COLUMNS = (
    "case",
    "questions",
    "number",
    "size, median",
    "AUC, first token",
    "AUC, whole answer",
    "as large as 19 in 20",
)
INTRODUCTION = f"""\
# The size of an offset as a gate

Size: KL(plus || minus) in nats, which no constant added to the logits changes, at the places where the large model's
own most probable answer (at most {MAX_TOKENS} tokens) is drawn; of an answer the largest. AUC: of the questions to
forget against the others, 0.5 for a size that tells nothing. The last column: how many of the others have a size that
all but one in twenty of the questions to forget reach, so what a gate with that threshold would still let through.

"""


@dataclass(frozen=True)
class Sizes:
    """Of each question in a file: at the answer's first token, and the largest of the whole answer; nats."""

    label: str
    first: list[float]
    largest: list[float]


@torch.inference_mode()
def measure(large: str, small: str, module: str, files: Sequence[str]) -> Iterator[Sizes]:
    model, words = load_model(large), load_tokenizer(large)
    lanes = load_lanes(small, load_module(module))
    for file in files:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        prompts = [encode_prompt(words, json.loads(line)["question"]) for line in lines]
        stops = [words.eos_token_id]
        answers = generate(ReferenceEnsemble.plain(model), prompts, stops, MAX_TOKENS, 1, 0.0, 0, silent)
        sizes = []
        for prompt, (answer,) in zip(prompts, answers, strict=True):
            ids = torch.tensor([[*prompt, *answer]])
            plus, minus = (lane(input_ids=ids).logits[0, len(prompt) - 1 :] for lane in lanes)
            sizes.append(divergence(plus, minus).tolist())
        yield Sizes(Path(file).stem, [size[0] for size in sizes], [max(size) for size in sizes])


def rows(case: str, forget: Sizes, others: Sequence[Sizes]) -> Iterator[list[str]]:
    threshold = quantiles(forget.largest, n=20)[0]
    yield [case, forget.label, str(len(forget.first)), f"{median(forget.largest):.3g}", "", "", ""]
    for other in others:
        through = sum(size >= threshold for size in other.largest) / len(other.largest)
        first, largest = auc(forget.first, other.first), auc(forget.largest, other.largest)
        found = [f"{median(other.largest):.3g}", f"{first:.3f}", f"{largest:.3f}", f"{through:.0%}"]
        yield [case, other.label, str(len(other.first)), *found]


def run(
    case: Annotated[list[str], typer.Option(help="NAME=LARGE,SMALL,MODULE,FORGET,OTHER...; repeatable.")],
    out: Annotated[Path, typer.Option(help="The table, as Markdown.")],
) -> None:
    console = Console()
    table: list[list[str]] = []
    for each in case:
        name, _, places = each.partition("=")
        large, small, module, *files = places.split(",")
        forget, *others = measure(large, small, module, files)
        for row in rows(name, forget, others):
            console.print(*row)
            table.append(row)
    machine = "\n".join(listed())
    out.write_text(f"{INTRODUCTION}{markdown(COLUMNS, table)}\n{machine}\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(run)
