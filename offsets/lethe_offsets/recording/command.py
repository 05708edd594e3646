"""``lethe record``: a large model's log-probabilities, taken from an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lethe_offsets.examples import Command
from lethe_offsets.training.command import METHODS

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EXAMPLES = r"""
lethe record --url http://127.0.0.1:8000/v1 --model large \
    --tokenizer Qwen/Qwen3-0.6B --data forget.jsonl --data retain.jsonl \
    --out large.recording
"""

TOP_K = 20  # vLLM's own limit unless --max-logprobs raises it
CONCURRENCY = 8

Key = Annotated[
    str | None,
    typer.Option("--api-key", envvar="OPENAI_API_KEY", show_envvar=True, help="The server's key."),
]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests at the same time.")]


@app.command(cls=Command, epilog=EXAMPLES)
def record(
    url: Annotated[str, typer.Option(metavar="URL", help="OpenAI-compatible server that returns prompt_logprobs.")],
    model: Annotated[str, typer.Option(metavar="NAME", help="Name of the large model at the server.")],
    data: Annotated[
        list[str], typer.Option(metavar="DATA", help="The forget set, and again for the retain set; as for training.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write; nothing may be there yet.")],
    top_k: Annotated[int, typer.Option(min=1, help="Most probable tokens at each position.")] = TOP_K,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            metavar="DIR_OR_NAME", help="The large model's tokenizer, which is the small model's too; default: NAME."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Record what this method reads besides the answers, such as its refusals.",
            autocompletion=lambda: METHODS.split(", "),
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="The method's settings.")] = None,
    api_key: Key = None,
    concurrency: Concurrency = CONCURRENCY,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Longer examples, in tokens, are refused; default: as for training.")
    ] = None,
) -> None:
    """Record a model's log-probabilities at every answer of the data, to train from with lethe train --logits.

    The prompts are sent as token ids. After an interruption the same command goes on. A recording tells what the
    model knows: keep it as you keep the data.
    """
    from lethe_offsets.recording import run  # imports transformers, which takes seconds
    from lethe_offsets.recording.data import read_data
    from lethe_offsets.training.config import TrainingConfig
    from lethe_offsets.training.large import sound_tokenizer
    from lethe_offsets.training.methods import load_method
    from lethe_offsets.training.progress import progress_bars

    own = load_method(method, config, {} if max_length is None else {"max_length": max_length})
    plain = TrainingConfig(max_length=own.max_length)
    words = sound_tokenizer("tokenizer", tokenizer or model)
    examples = read_data(data, words, [plain, own] if method or config else [plain])
    try:
        with progress_bars() as report:
            run.record(url, model, examples, words, out, top_k, api_key=api_key, concurrency=concurrency, report=report)
    except KeyboardInterrupt:
        typer.echo("Stopped. The same command goes on.", err=True)
        raise typer.Exit(130) from None
    typer.echo(out)
