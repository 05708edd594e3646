"""A plan, from two configs to what is suggested."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from lethe_offsets.errors import InvalidInput
from lethe_server.planning import advice
from lethe_server.planning.memory import Memory, Pair, plan_memory
from lethe_server.planning.precision import dtype_of, weight_bytes
from lethe_server.planning.sizes import read_size
from lethe_server.planning.step import DEVICES, ratio

ROWS = (1, 8, 32, 128)
SEEN = 1024  # tokens before the one that is decoded


@dataclass(frozen=True)
class Wish:
    """What is to be planned. gpu_memory: GiB of each GPU."""

    model: str
    small_model: str
    gpu_memory: float
    gpus: int
    gpu: str
    dtype: str
    quantization: str | None
    max_model_len: int | None
    max_modules: int
    max_rank: int
    plus_model: str | None = None
    max_offsets: int = 1


@dataclass(frozen=True)
class Plan:
    """ratios: to plain vLLM, by requests at the same time, None where the KV cache doesn't hold these. context: tokens
    of the longest request. instead: what to do where that doesn't fit."""

    wish: Wish
    pair: Pair
    memory: Memory
    context: int
    ratios: dict[int, float | None]
    flags: list[str]
    instead: str | None

    @property
    def fits(self) -> bool:
        return self.instead is None


def make_plan(wish: Wish) -> Plan:
    """Raises InvalidInput."""
    pair = _pair(wish)
    memory = plan_memory(pair, wish.gpu_memory, wish.gpus)
    context = wish.max_model_len or pair.context
    if context > pair.context:
        raise InvalidInput("max_model_len", context, f"at most {pair.context}, which both models hold")
    seen = min(SEEN, context)
    device = DEVICES[wish.gpu]
    ratios = {rows: ratio(pair, rows, seen, device) if rows * seen <= memory.tokens else None for rows in ROWS}
    short = memory.tokens < context
    named = {"model": wish.model, "small-model": wish.small_model, "plus-model": wish.plus_model}
    names = {flag: folder_of(name) for flag, name in named.items() if name}
    return Plan(
        wish=wish,
        pair=pair,
        memory=memory,
        context=context,
        ratios=ratios,
        flags=[] if short else advice.flags(names, pair, memory, wish.gpus, context, wish.quantization),
        instead=advice.instead(pair, memory, wish.gpu_memory, wish.gpus, context) if short else None,
    )


def _pair(wish: Wish) -> Pair:
    large, small = read_config("model", wish.model), read_config("small_model", wish.small_model)
    dtype, small_size = dtype_of(large, wish.dtype), read_size("small_model", small)
    if wish.plus_model and read_size("plus_model", read_config("plus_model", wish.plus_model)) != small_size:
        raise InvalidInput("plus_model", wish.plus_model, f"a model of the shape of {wish.small_model}")
    if wish.plus_model and wish.max_offsets > 1:
        raise InvalidInput("max_offsets", wish.max_offsets, "1 beside --plus-model")
    return Pair(
        large=read_size("model", large),
        small=small_size,
        dtype=dtype,
        large_bytes=weight_bytes("quantization", large, dtype, wish.quantization),
        small_bytes=weight_bytes("small_model", small, dtype),
        slots=wish.max_modules,
        rank=wish.max_rank,
        lane_weights=2 if wish.plus_model else 1,
        offsets=wish.max_offsets,
    )


def read_config(field: str, name: str) -> PretrainedConfig:
    """Raises InvalidInput where there is none, or no text-only decoder's."""
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder_of(name))
    except (OSError, ValueError) as err:
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise InvalidInput(field, name, f"a directory, a hub name or a config.json ({reason})") from err
    if config.get_text_config() is not config or getattr(config, "is_encoder_decoder", False):
        raise InvalidInput(field, name, f"a text-only decoder; {config.model_type} is none")
    return config


def folder_of(name: str) -> str:
    """What ``lethe serve`` wants where a ``config.json`` was named. Raises InvalidInput for a file of another name."""
    path = Path(name)
    if not path.is_file():
        return name
    if path.name != "config.json":
        raise InvalidInput("model", name, "a directory, a hub name or a file config.json")
    return str(path.parent)
