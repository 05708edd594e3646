"""A plan as tables or JSON."""

from __future__ import annotations

import json
import shlex

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lethe_server.planning.made import SEEN, Plan
from lethe_server.planning.memory import GIB


def print_json(plan: Plan) -> None:
    memory = plan.memory
    told = {
        "fits": plan.fits,
        "gpus": plan.wish.gpus,
        "gpu": plan.wish.gpu,
        "dtype": plan.pair.dtype,
        "max_model_len": plan.context,
        "parameters": {"large": plan.pair.large.parameters, "small": plan.pair.small.parameters},
        "bytes_per_gpu": {name: round(size) for name, size in _parts(plan).items()},
        "kv_bytes_per_token": {"large": memory.large_token, "pair": memory.pair_token},
        "kv_tokens": memory.tokens,
        "kv_tokens_plain": memory.plain_tokens,
        "ratio_to_plain": {str(rows): found for rows, found in plan.ratios.items()},
        "flags": plan.flags,
        "instead": plan.instead,
    }
    print(json.dumps(told, indent=2))


def print_tables(plan: Plan, console: Console) -> None:
    console.print(_memory_table(plan))
    console.print(_ratio_table(plan))
    console.print(_ratio_terms(plan))
    if plan.instead is not None:
        text = f"A request of {plan.context} tokens does not fit; instead: {plan.instead}"
        console.print(Text(text), soft_wrap=True)
        return
    if plan.pair.large.windowed or plan.pair.small.windowed:
        console.print("Layers that see a window only are counted as whole ones: the KV cache may hold more.")
    console.print(Text(f"lethe serve {shlex.join(plan.flags)}"), soft_wrap=True)


def _parts(plan: Plan) -> dict[str, float]:
    memory = plan.memory
    parts = {"large": memory.large, "small": memory.small, "adapters": memory.adapters}
    return {**parts, "working": memory.working, "kv_cache": max(0.0, memory.cache), "available": memory.available}


def _memory_table(plan: Plan) -> Table:
    memory, pair = plan.memory, plan.pair
    each = f"{memory.large_token + memory.pair_token:,} bytes each, {memory.pair_token:,} of them the pair's"
    said = {
        "large": f"{pair.large.parameters / 1e9:.2f} billion weights",
        "small": f"{pair.small.parameters / 1e9:.2f} billion weights, once for all lanes",
        "adapters": f"{pair.slots} slots of rank {pair.rank}",
        "working": "activations, logits, CUDA: a rough estimate",
        "kv_cache": f"{memory.tokens:,} tokens; {each}",
        "available": f"of {plan.wish.gpu_memory:g} GiB on each of {plan.wish.gpus}",
    }
    table = Table("per GPU", "GiB", "what")
    for name, size in _parts(plan).items():
        table.add_row(name.replace("_", " "), Text(f"{size / GIB:.2f}", justify="right"), said[name])
    return table


def _ratio_table(plan: Plan) -> Table:
    table = Table("requests at once", "of plain vLLM's speed")
    for rows, found in plan.ratios.items():
        table.add_row(str(rows), "does not fit" if found is None else f"{found:.1%}")
    return table


def _ratio_terms(plan: Plan) -> Text:
    """For what the table holds, and what the large model alone would hold."""
    modules = "a module" if plan.pair.offsets == 1 else f"{plan.pair.offsets} modules"
    shown = f"an {plan.wish.gpu.upper()} at {min(SEEN, plan.context)} tokens of context, every request with {modules}"
    alone = f"The large model alone would hold {plan.memory.plain_tokens:,} tokens."
    return Text(f"The speed is arithmetic for {shown}; nothing was measured. {alone}")
