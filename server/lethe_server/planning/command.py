"""``lethe plan``."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console

from lethe_offsets.examples import Command

EXIT_NO_ROOM = 1
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
EXAMPLES = r"""
lethe plan --model Qwen/Qwen3-8B --small-model Qwen/Qwen3-0.6B \
    --gpu-memory 80

lethe plan --model Qwen/Qwen3-32B --small-model Qwen/Qwen3-0.6B \
    --gpu h200 --gpu-memory 141 --gpus 2 --max-model-len 32768
"""


@app.command(cls=Command, epilog=EXAMPLES)
def plan(
    model: Annotated[str, typer.Option(metavar="CONFIG", help="Large model: directory, hub name or config.json.")],
    small_model: Annotated[str, typer.Option(metavar="CONFIG", help="Small model, likewise.")],
    gpu_memory: Annotated[float, typer.Option(min=1, metavar="GIB", help="Memory of each GPU.")],
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that share the models (tensor parallelism).")] = 1,
    gpu: Annotated[
        Literal["a100", "l40s", "h100", "h200"], typer.Option(help="Whose bandwidth and arithmetic the ratio is for.")
    ] = "h100",
    dtype: Annotated[
        str,
        typer.Option(
            help="Number format: auto, bfloat16, float16 or float32.",
            autocompletion=lambda: ["auto", "bfloat16", "float16", "float32"],
        ),
    ] = "auto",
    quantization: Annotated[
        str | None, typer.Option(help="The large model's, by vLLM's name; default: what its config says.")
    ] = None,
    max_model_len: Annotated[int | None, typer.Option(min=1, help="Tokens of a request; default: what both hold.")] = (
        None
    ),
    max_modules: Annotated[int, typer.Option(min=1, help="Modules that one step can mix.")] = 4,
    max_rank: Annotated[int, typer.Option(min=1, help="Largest rank of a module, both lanes together.")] = 64,
    max_offsets: Annotated[int, typer.Option(min=1, max=8, help="Modules whose offsets one answer can add.")] = 1,
    plus_model: Annotated[str | None, typer.Option(metavar="CONFIG", help="The plus lane's own model, if any.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Say what fits on a GPU, and how fast it can be, from the configs of both models alone.

    Nothing is downloaded but these. Exit code 1: one request of the asked length does not fit.
    """
    from lethe_server.planning import show  # imports torch and transformers, which takes seconds
    from lethe_server.planning.made import Wish, make_plan

    made = make_plan(
        Wish(
            model=model,
            small_model=small_model,
            gpu_memory=gpu_memory,
            gpus=gpus,
            gpu=gpu,
            dtype=dtype,
            quantization=quantization,
            max_model_len=max_model_len,
            max_modules=max_modules,
            max_rank=max_rank,
            plus_model=plus_model,
            max_offsets=max_offsets,
        )
    )
    show.print_json(made) if as_json else show.print_tables(made, Console())
    if not made.fits:
        raise typer.Exit(EXIT_NO_ROOM)
