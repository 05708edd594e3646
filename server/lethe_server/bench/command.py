"""``lethe bench``: plain vLLM, Lethe and their peers in one run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from lethe_offsets.errors import InvalidInput
from lethe_offsets.examples import Command
from lethe_offsets.steps import default_cache_dir
from lethe_server.bench.settings import BenchSettings, Dtype

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EXAMPLES = r"""
lethe bench --out bench
lethe bench --out bench-tiny --tiny --no-peers --ratios 4 --concurrency 1,4
"""
DEFAULTS = BenchSettings.build()


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(int(item) for item in text.split(",")))
    except ValueError as err:
        raise InvalidInput(name, text, "whole numbers with commas between them") from err


def _list(field: str, text: str) -> Any:
    return typer.Option(metavar="N,N,...", help=f"{text}; default: {','.join(map(str, getattr(DEFAULTS, field)))}.")


@app.command(cls=Command, epilog=EXAMPLES)
def bench(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results go; a run there is continued.")],
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Models, compiled code, logs; default: the user's cache.")
    ] = None,
    ratios: Annotated[str | None, _list("ratios", "Large to small; of 4, 16 and 40")] = None,
    concurrency: Annotated[str | None, _list("concurrency", "Requests at the same time")] = None,
    prompts: Annotated[str | None, _list("prompts", "Lengths of prompts, tokens")] = None,
    output_tokens: Annotated[int, typer.Option(help="Tokens of each answer.")] = DEFAULTS.output_tokens,
    rounds: Annotated[
        int, typer.Option(help="How often each cell is measured; short ones four times as often.")
    ] = DEFAULTS.rounds,
    peers: Annotated[bool, typer.Option(help="Measure the peers too, where prompts are not too many.")] = True,
    modules: Annotated[int, typer.Option(help="Modules mixed in one batch; 0 leaves it out.")] = DEFAULTS.modules,
    profile: Annotated[bool, typer.Option(help="Profile a decode step.")] = True,
    dtype: Annotated[Dtype, typer.Option(help="Of all models, in every system.")] = DEFAULTS.dtype,
    eager: Annotated[bool, typer.Option("--eager", help="Compile nothing, in any system.")] = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="Tiny models: whether it runs, not how fast.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away the results in OUT.")] = False,
) -> None:
    """Measure what the offset costs: plain vLLM and Lethe over HTTP in turns, with the same prompts.

    Random models of three ratios are made for it. Results: results.jsonl, table.md, goals.md, bench.png, profile.md.
    """
    lists = {"ratios": ratios, "concurrency": concurrency, "prompts": prompts}
    given: dict[str, Any] = {name: _numbers(name, text) for name, text in lists.items() if text is not None}
    settings = BenchSettings.build(
        **given,
        output_tokens=output_tokens,
        rounds=rounds,
        peers=peers,
        modules=modules,
        profile=profile,
        dtype=dtype,
        eager=eager,
        tiny=tiny,
    )
    from lethe_server.bench.run import run  # imports torch and transformers, which takes seconds

    folder = work or default_cache_dir().with_name("bench")
    run(settings, out.resolve(), folder.resolve(), fresh, f"lethe bench {shlex.join(sys.argv[2:])}")
