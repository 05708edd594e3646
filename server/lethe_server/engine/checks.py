"""What is refused before an engine starts, each with what to do instead."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from lethe_offsets import special
from lethe_offsets.adapter import LaneAdapter
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.manifest import Lane
from lethe_offsets.module import Module
from lethe_offsets.small_model import SmallModelFacts
from lethe_server.engine.families import check_large_family, check_small_family
from lethe_server.engine.spec import EngineSpec, PairConfig
from lethe_server.planning.sizes import NUM_EXPERTS

MAX_SLOTS = 256  # bfloat16 carries a row's slot and holds integers exactly only up to this
PAIR_DTYPES = ("auto", "float32", "bfloat16", "float16")
MAX_OFFSETS = 8  # of a request: each costs two lanes for every token that is computed
OWNED_OPTIONS = {
    "enable_lora": "forget modules are given by --module",
    "max_loras": "set --max-modules-per-batch",
    "max_lora_rank": "set --max-module-rank",
    "lora_target_modules": "forget modules act on the small model only",
    "lora_modules": "user adapters on the large model are not served; merge them into the large model first",
    "default_mm_loras": "user adapters on the large model are not served",
    "enable_prompt_embeds": "the small models can't read the large model's embeddings; send token ids",
    "scheduler_cls": "Lethe's scheduler fails requests whose offset is unsound",
    "worker_extension_cls": "Lethe's workers keep the rules",
}


def check_options(spec: EngineSpec) -> None:
    """Raises InvalidInput for engine options that Lethe owns or can't hold together."""
    for name, instead in OWNED_OPTIONS.items():
        if spec.options.get(name):
            raise InvalidInput(name, spec.options[name], f"nothing: {instead}")
    if int(spec.options.get("pipeline_parallel_size") or 1) > 1:
        value = spec.options["pipeline_parallel_size"]
        raise InvalidInput("pipeline_parallel_size", value, "1; use --tensor-parallel-size, the pair needs all layers")
    overrides = spec.options.get("hf_overrides")
    if overrides and not isinstance(overrides, Mapping):
        raise InvalidInput("hf_overrides", overrides, "a mapping of config keys")
    if overrides and "architectures" in overrides:
        raise InvalidInput("hf_overrides.architectures", overrides["architectures"], "nothing: Lethe sets it")
    if spec.draft_tokens and spec.options.get("speculative_config"):
        raise InvalidInput("draft_tokens", spec.draft_tokens, "0 beside --speculative-config; leave one of them out")
    if spec.draft_tokens and spec.plus_model:
        raise InvalidInput("draft_tokens", spec.draft_tokens, "0 beside --plus-model: drafts need one small model")
    if spec.pair_dtype not in PAIR_DTYPES:
        raise InvalidInput("pair_dtype", spec.pair_dtype, ", ".join(PAIR_DTYPES))
    if spec.draft_tokens and spec.pair_dtype != "auto":
        raise InvalidInput("pair_dtype", spec.pair_dtype, "auto beside --draft-tokens: drafts are of the large model's")
    if not 1 <= spec.max_modules_per_batch <= MAX_SLOTS:
        raise InvalidInput("max_modules_per_batch", spec.max_modules_per_batch, f"1 to {MAX_SLOTS}")
    if not 1 <= spec.max_offsets_per_request <= MAX_OFFSETS:
        raise InvalidInput("max_offsets_per_request", spec.max_offsets_per_request, f"1 to {MAX_OFFSETS}")
    if spec.max_offsets_per_request > 1 and spec.plus_model:
        accepted = "1 beside --plus-model: a sum would count what the plus model alone changes once for each module"
        raise InvalidInput("max_offsets_per_request", spec.max_offsets_per_request, accepted)


def check_compiler(compiled: bool) -> None:
    """Raises InvalidInput when a compiled engine would find no C++ compiler at its first request."""
    if compiled and not any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++")):
        raise InvalidInput("enforce_eager", False, "true, or a C++ compiler (Debian: g++): the engine compiles itself")


def check_layout(large: PretrainedConfig, small: PretrainedConfig, spec: EngineSpec, on_cpu: bool) -> None:
    """Raises InvalidInput for models that can't be split or shared out as asked.

    Several engines with experts on the CPU die at their first request (vLLM 0.32).
    """
    ranks = int(spec.options.get("tensor_parallel_size") or 1)
    for name, config in ((spec.model, large), (spec.small_model, small)):
        if (heads := getattr(config, "num_attention_heads", 0)) % ranks:
            raise InvalidInput("tensor_parallel_size", ranks, f"a divisor of the {heads} attention heads of {name}")
    engines = int(spec.options.get("data_parallel_size") or 1)
    if on_cpu and engines > 1 and any(getattr(large, name, None) for name in NUM_EXPERTS):
        raise InvalidInput(
            "data_parallel_size", engines, "1 for a mixture of experts on the CPU; start several servers"
        )


def read_config(field: str, name: str, options: Mapping[str, Any]) -> PretrainedConfig:
    """The model's Hugging Face config. Raises InvalidInput when there is none."""
    config: PretrainedConfig = _read(AutoConfig, field, name, options, "a model directory or hub name")
    return config


def read_tokenizer(field: str, name: str, options: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """Raises InvalidInput when there is none."""
    tokenizer: PreTrainedTokenizerBase = _read(AutoTokenizer, field, name, options, "a model with a tokenizer")
    return tokenizer


def _read(kind: Any, field: str, name: str, options: Mapping[str, Any], accepted: str) -> Any:
    revision = options.get("revision") if field == "model" else None
    try:
        return kind.from_pretrained(name, revision=revision, trust_remote_code=bool(options.get("trust_remote_code")))
    except (OSError, ValueError) as err:
        raise InvalidInput(field, name, f"{accepted} ({_first_line(err)})") from err


def check_models(large: PretrainedConfig, small: PretrainedConfig, spec: EngineSpec) -> None:
    """Raises InvalidInput unless both are text-only decoders of families that can be held together."""
    for field, name, config in (("model", spec.model, large), ("small_model", spec.small_model, small)):
        if config.get_text_config() is not config or hasattr(config, "vision_config"):
            kind = config.model_type
            raise InvalidInput(field, name, f"a text-only model; {kind} is multimodal, serve its text checkpoint")
        if getattr(config, "is_encoder_decoder", False):
            raise InvalidInput(field, name, "a decoder-only model; this one is an encoder-decoder")
        if not config.architectures:
            raise InvalidInput(field, name, "a config.json that names its architectures")
    check_large_family(spec.model, large)
    check_small_family(spec.small_model, small)
    if spec.draft_tokens and large.vocab_size != small.vocab_size:
        accepted = f"0: vLLM takes drafts of a model with as many logits only, not {small.vocab_size} for"
        raise InvalidInput("draft_tokens", spec.draft_tokens, f"{accepted} {large.vocab_size}")


def check_tokenizers(large: PreTrainedTokenizerBase, small: PreTrainedTokenizerBase, spec: EngineSpec) -> None:
    """Raises InvalidInput unless every token has the same id in both."""
    ours, theirs = large.get_vocab(), small.get_vocab()
    for token in sorted(ours.keys() | theirs.keys(), key=lambda t: ours.get(t, theirs.get(t, 0))):
        if ours.get(token) != theirs.get(token):
            raise InvalidInput(
                "small_model",
                spec.small_model,
                f"a small model with the large model's tokenizer; token {token!r} has id {ours.get(token)} in "
                f"{spec.model} and {theirs.get(token)} here",
            )


def special_ids(large: PretrainedConfig, tokenizer: PreTrainedTokenizerBase, model: str) -> tuple[int, ...]:
    """Special and end-of-sequence ids of the large model, those of its generation config included."""
    ends: list[Any] = [large.eos_token_id]
    with suppress(OSError, ValueError):  # a model without a generation config has no further end tokens
        ends.append(GenerationConfig.from_pretrained(model).eos_token_id)
    return special.special_ids(tokenizer.all_special_ids, ends, large.vocab_size)


def check_module(
    module: Module,
    adapters: Mapping[Lane, LaneAdapter],
    small: SmallModelFacts,
    plus: SmallModelFacts | None,
    max_rank: int,
) -> None:
    """Raises ModuleIncompatible unless the module was made for the pair being served and fits its slots.

    plus: the plus lane's model where it has weights of its own.
    """
    manifest = module.manifest
    for field, made_for, served in (
        ("small_model", manifest.small_model, small),
        ("plus_model", manifest.plus_model, plus),
    ):
        if (made_for and made_for.digest) != (served and served.digest):
            value = made_for and f"{made_for.id} ({made_for.digest})"
            accepted = f"that being served, {served.id} ({served.digest})" if served else "none: both lanes run one"
            raise ModuleIncompatible(field, value, accepted)
    if manifest.tokenizer_digest != small.tokenizer_digest:
        raise ModuleIncompatible("tokenizer_digest", manifest.tokenizer_digest, small.tokenizer_digest)
    if manifest.vocab_size != small.vocab_size:
        raise ModuleIncompatible("vocab_size", manifest.vocab_size, str(small.vocab_size))
    for lane, adapter in adapters.items():
        small.check_fit(adapter, lane)
    rank = sum(adapter.rank for adapter in adapters.values())
    if rank > max_rank:
        raise ModuleIncompatible("rank", rank, f"at most {max_rank}, both lanes together; raise --max-module-rank")


def check_sum(adapters: Sequence[Mapping[Lane, LaneAdapter]], max_offsets: int, max_rank: int) -> None:
    """Raises ModuleIncompatible for modules that can't answer together. adapters: the lanes of each."""
    if len(adapters) > max_offsets:
        accepted = f"at most {max_offsets} whose offsets are added; raise --max-offsets-per-request"
        raise ModuleIncompatible("modules", len(adapters), accepted)
    rank = sum(lane.rank for lanes in adapters for lane in lanes.values())
    if rank > max_rank:
        accepted = f"at most {max_rank}, both lanes of all {len(adapters)} modules together; raise --max-module-rank"
        raise ModuleIncompatible("rank", rank, accepted)


def compiles(options: Mapping[str, Any]) -> bool:
    """Whether vLLM would compile an engine with these options if it had no adapters."""
    level = str(options.get("optimization_level", "2")).upper().removeprefix("O")
    compilation = options.get("compilation_config")
    mode = compilation.get("mode") if isinstance(compilation, Mapping) else getattr(compilation, "mode", None)
    return not options.get("enforce_eager") and level != "0" and str(mode).upper() not in ("0", "COMPILATIONMODE.NONE")


def pair_config(spec: EngineSpec, architectures: list[str], ids: tuple[int, ...], rank: int) -> PairConfig:
    return PairConfig(
        small_model=spec.small_model,
        plus_model=spec.plus_model,
        architectures=tuple(architectures),
        special_ids=ids,
        slots=spec.max_modules_per_batch,
        rank=rank,
        num_pairs=spec.max_offsets_per_request,
        compile=compiles(spec.options),
        speculative=bool(spec.draft_tokens or spec.options.get("speculative_config")),
        side_stream=spec.side_stream,
        dtype=spec.pair_dtype,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
