"""``lethe demo``: build a small world, make a model forget some of its people, look at it, serve it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from transformers.utils.logging import disable_progress_bar

from lethe_offsets.demo.build import DemoWorld, build_world, default_cache_dir
from lethe_offsets.demo.evaluate import Question, answer_all, exact_matches, read_questions
from lethe_offsets.demo.serving import serve_world
from lethe_offsets.module import Module
from lethe_offsets.training.progress import progress_bars
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer

SHOWN = 3  # questions of each kind whose answers are printed

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def demo(
    build_only: Annotated[bool, typer.Option("--build-only", help="Build and compare, but don't serve.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Build again what is already there.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on, on this machine only.")] = 8000,
    cache_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to build.", show_default="lethe/demo in the user's cache")
    ] = None,
) -> None:
    """See a model forget: fictitious people, a large and a small model trained on them, a module that forgets some."""
    console = Console()
    disable_progress_bar()  # of weights being read; ours say more
    where = cache_dir or default_cache_dir()
    console.print(f"Building below {where}; finished steps are kept.")
    with progress_bars(console) as report:
        world = build_world(where, fresh=fresh, report=report)
    compare(world, console)
    if not build_only:
        raise typer.Exit(serve_world(world, port, console))


def compare(world: DemoWorld, console: Console) -> None:
    """Print what is answered before and after, on questions the module was trained on and on other phrasings."""
    words = load_tokenizer(world.large)
    large = load_model(world.large)
    module = Module.open(world.module)
    ensembles = {
        "before": ReferenceEnsemble.plain(large),
        "after": ReferenceEnsemble.of_module(large, world.small, module, words.all_special_ids),
    }
    table = Table("facts answered exactly", "before", "after", title=module.ref)
    examples: list[tuple[Question, dict[str, str]]] = []
    for path, asked in ((world.facts, "as trained"), (world.paraphrases, "rephrased")):
        questions = read_questions(path)
        with console.status(f"Asking {len(questions)} questions, {asked}"):
            answers = {when: answer_all(ensemble, words, questions) for when, ensemble in ensembles.items()}
        scores = {when: exact_matches(questions, given.__getitem__) for when, given in answers.items()}
        for split, people in (("forget", "people to forget"), ("retain", "everybody else")):
            row = [f"{scores[when][split].exact} of {scores[when][split].total}" for when in ensembles]
            table.add_row(f"{people}, {asked}", *row)
            some = [question for question in questions if question.split == split][:SHOWN]
            examples += [(q, {when: answers[when][q.question] for when in ensembles}) for q in some]
    console.print(table)
    told = Table("question", "before", "after")
    for question, given in examples:
        told.add_row(question.question, given["before"], given["after"])
    console.print(told)
