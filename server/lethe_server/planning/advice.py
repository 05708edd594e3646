"""What to start a server with."""

from __future__ import annotations

from collections.abc import Mapping

from lethe_offsets.errors import InvalidInput
from lethe_server.planning.memory import Memory, Pair, plan_memory

MAX_GPUS = 16
CONTEXT_UNIT = 1024
TYPICAL = 1024  # tokens of a request, prompt and answer


def flags(
    models: Mapping[str, str],
    pair: Pair,
    memory: Memory,
    gpus: int,
    context: int,
    quantization: str | None,
) -> list[str]:
    """Arguments of ``lethe serve``, without modules and keys. models: their names by option."""
    found = [part for option, name in models.items() for part in (f"--{option}", name)] + ["--dtype", pair.dtype]
    found += ["--tensor-parallel-size", str(gpus)] if gpus > 1 else []
    found += ["--quantization", quantization] if quantization else []
    found += ["--max-model-len", str(context)]
    found += ["--max-modules-per-batch", str(pair.slots), "--max-module-rank", str(pair.rank)]
    found += ["--max-offsets-per-request", str(pair.offsets)] if pair.offsets > 1 else []
    sequences = memory.tokens // min(TYPICAL, context)
    return [*found, "--max-num-seqs", str(max(1, sequences))] if sequences < memory.requests else found


def instead(pair: Pair, memory: Memory, gpu_memory: float, gpus: int, context: int) -> str:
    """What to do where one request of ``context`` tokens doesn't fit."""
    shorter = memory.tokens // CONTEXT_UNIT * CONTEXT_UNIT
    ways = [f"--max-model-len {shorter}"] if shorter else []
    for more in range(gpus + 1, MAX_GPUS + 1):
        try:
            if plan_memory(pair, gpu_memory, more).tokens >= context:
                ways.append(f"--gpus {more}")
                break
        except InvalidInput:  # they can't share the heads
            continue
    return ", ".join([*ways, "a quantized or a smaller large model"])
