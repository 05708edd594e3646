"""Contacts with vLLM's internals, and why each is needed; those with its adapters are in ``compat_adapters``.

Written against 0.32 (CPU), and run on 0.26 too. Each function says what it relies on; the engine tests fail where that
changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from vllm import envs
from vllm.config import CompilationMode, CUDAGraphMode, ModelConfig, VllmConfig
from vllm.forward_context import get_forward_context
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.model_loader import get_model_loader
from vllm.model_executor.model_loader.utils import initialize_model
from vllm.platforms import current_platform

from lethe_offsets.errors import InvalidInput
from lethe_server.engine.lanes import join_lanes
from lethe_server.engine.spec import EngineSpec, PairConfig


def on_cpu() -> bool:
    return bool(current_platform.is_cpu())


def cache_folder() -> Path:
    """Where vLLM keeps compiled code (``VLLM_CACHE_ROOT``)."""
    return Path(envs.VLLM_CACHE_ROOT) / "lethe"


def side_stream(vllm_config: VllmConfig, model: nn.Module) -> torch.cuda.Stream | None:
    """A stream for the pair beside the large model's, or None where the two may not run at once.

    With several ranks the collectives of two streams could meet in another order on each. Of the attention backends
    only FlashAttention's is known to keep no scratch memory that layers share.
    """
    backends = {layer.attn_backend.get_name() for layer in model.modules() if isinstance(layer, Attention)}
    if not current_platform.is_cuda() or vllm_config.parallel_config.world_size > 1 or backends != {"FLASH_ATTN"}:
        return None
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def may_fork() -> bool:
    """Whether this pass is captured whole or not at all.

    Captured piece by piece, the graphs of both models share one memory pool and must not be replayed at once.
    """
    return get_forward_context().cudagraph_runtime_mode != CUDAGraphMode.PIECEWISE


def serving() -> bool:
    """Whether this forward pass answers requests; vLLM's warm-up and profiling passes carry no attention metadata."""
    return get_forward_context().attn_metadata is not None


def additional_config(vllm_config: VllmConfig) -> Mapping[str, Any]:
    """vLLM's free-form settings; Lethe starts engines with a mapping."""
    config = vllm_config.additional_config
    if not isinstance(config, Mapping):
        raise TypeError(f"additional_config must be a mapping, got {type(config).__name__}")
    return config


def scheduler_class() -> str:
    """vLLM's CPU platform schedules step by step; elsewhere a scheduler that isn't async would slow every step."""
    name = "FailClosedScheduler" if current_platform.is_cpu() else "FailClosedAsyncScheduler"
    return f"lethe_server.engine.scheduler.{name}"


def _derived_config(vllm_config: VllmConfig, pair: PairConfig) -> VllmConfig:
    """A config for one of the inner models.

    Shallow on purpose: ``VllmConfig.replace`` would run the whole platform set-up again, and the layers must land in
    the engine's own ``static_forward_context``. No adapters: with them vLLM picks adapter kernels for experts and
    pads the vocabulary. Its CPU platform switches compilation off for any engine with adapters; the pair's adapter
    products compile, so the mode is given back, but only where the engine would have compiled.
    """
    derived = copy.copy(vllm_config)
    derived.lora_config = None
    derived.compilation_config = copy.copy(vllm_config.compilation_config)
    if pair.compile and current_platform.is_cpu():
        derived.compilation_config.mode = CompilationMode.DYNAMO_TRACE_ONCE
    return derived


def build_large(vllm_config: VllmConfig, pair: PairConfig) -> nn.Module:
    """The large model as vLLM's registry builds it, from a config that names its own architecture."""
    config = _derived_config(vllm_config, pair)
    config.model_config = copy.copy(vllm_config.model_config)
    config.model_config.hf_config = copy.deepcopy(vllm_config.model_config.hf_config)
    config.model_config.hf_config.architectures = list(pair.architectures)
    config.model_config.model_arch_config = config.model_config.get_model_arch_config()
    large: nn.Module = initialize_model(vllm_config=config)
    return large


def small_model_config(vllm_config: VllmConfig, pair: PairConfig, model: str) -> ModelConfig:
    """The config of the small model, or of the plus lane's own one, made as vLLM makes a draft model's."""
    large = vllm_config.model_config
    return ModelConfig(
        model=model,
        runner="draft",
        tokenizer=large.tokenizer,
        tokenizer_mode=large.tokenizer_mode,
        dtype=large.dtype if pair.dtype == "auto" else getattr(torch, pair.dtype),
        seed=large.seed,
        max_model_len=large.max_model_len,
        enforce_eager=large.enforce_eager,
        config_format=large.config_format,
    )


@contextmanager
def _heads_of_all_lanes(lanes: int) -> Iterator[None]:
    """Attention layers made within hold ``lanes`` times the heads they are asked for, see ``lanes.py``.

    Relies on every family making its layers through ``Attention.__init__`` with its own rank's share of the heads.
    """
    plain = Attention.__init__

    def multiplied(self: Any, num_heads: int, *args: Any, **kwargs: Any) -> None:
        bound = signature(plain).bind(self, num_heads, *args, **kwargs)
        values = bound.arguments
        if values.get("extra_impl_args", {}).get("sinks") is not None:
            raise ValueError("the small model's attention has sinks, which a pair can't hold")
        values["num_kv_heads"] = lanes * (values.get("num_kv_heads") or num_heads)
        values["num_heads"] = lanes * num_heads
        if values.get("alibi_slopes") is not None:
            values["alibi_slopes"] = lanes * list(values["alibi_slopes"])
        plain(*bound.args, **bound.kwargs)

    Attention.__init__ = multiplied  # type: ignore[method-assign]
    try:
        yield
    finally:
        Attention.__init__ = plain  # type: ignore[method-assign]


def build_pair(vllm_config: VllmConfig, small_config: Any, pair: PairConfig, prefix: str) -> nn.Module:
    """The small model with its lanes."""
    small = _build_small(vllm_config, small_config, pair, prefix)
    join_lanes(small, Attention, pair.lanes)
    return small


def build_plus(vllm_config: VllmConfig, plus_config: Any, pair: PairConfig, prefix: str) -> nn.Module:
    """The plus lane's own model, of which the layers with weights are used (``compat_weights``).

    Its attention is given up, or vLLM would hold a KV cache for it.
    """
    plus = _build_small(vllm_config, plus_config, pair, prefix)
    for name, layer in list(plus.named_modules()):
        if isinstance(layer, Attention):
            del vllm_config.compilation_config.static_forward_context[layer.layer_name]
            plus.set_submodule(name, nn.Identity())
    return plus


def _build_small(vllm_config: VllmConfig, small_config: Any, pair: PairConfig, prefix: str) -> nn.Module:
    """A small model whose attention layers hold the heads of all lanes.

    Its compile tag keeps its compiled code apart from the large model's.

    A step has a row of each lane for each token, and vLLM compiles for a range of rows.
    """
    from vllm.compilation.backends import set_model_tag
    from vllm.utils.torch_utils import set_default_torch_dtype

    config = _derived_config(vllm_config, pair)
    config.model_config = small_config
    config.cache_config = copy.copy(vllm_config.cache_config)
    sliding = {*(getattr(small_config.hf_text_config, "layer_types", None) or ())} <= {"sliding_attention"}
    config.cache_config.sliding_window = small_config.get_sliding_window() if sliding else None  # as in EngineArgs
    config.quant_config = VllmConfig._get_quantization_config(small_config, vllm_config.load_config)
    for sizes in ("compile_ranges_endpoints", "compile_sizes"):
        if tokens := getattr(config.compilation_config, sizes, None):
            setattr(config.compilation_config, sizes, [pair.lanes * number for number in tokens])
    with set_model_tag("lethe_pair"), _heads_of_all_lanes(pair.lanes), set_default_torch_dtype(small_config.dtype):
        small: nn.Module = initialize_model(vllm_config=config, prefix=prefix)
    return small


def load_small_weights(small: nn.Module, small_config: ModelConfig, prefix: str) -> set[str]:
    """Load the small model's checkpoint with vLLM's own loader; returns every parameter name under ``prefix``.

    All names of shared tensors are counted: with a tied head the second one has no weight of its own to load.
    """
    from vllm.config import get_current_vllm_config_or_none
    from vllm.config.load import LoadConfig

    current = get_current_vllm_config_or_none()
    loader = get_model_loader(current.load_config if current is not None else LoadConfig())
    loader.load_weights(small, small_config)
    return {f"{prefix}.{name}" for name, _ in small.named_parameters(remove_duplicate=False)}


def shared_context(spec: EngineSpec) -> int:
    """The context length (tokens) both models can hold, or the one asked for.

    vLLM's own ModelConfig knows every family's key and scaling. The pair must see the whole context, so a length
    beyond the small model's is refused. Raises InvalidInput.
    """
    asked = spec.options.get("max_model_len")
    small = ModelConfig(model=spec.small_model, tokenizer=spec.small_model, dtype="auto").max_model_len
    if asked is None:
        large = ModelConfig(model=spec.model, tokenizer=spec.options.get("tokenizer") or spec.model).max_model_len
        return min(large, small)
    if int(asked) > small:
        raise InvalidInput("max_model_len", asked, f"at most {small}: the small model must see the whole context")
    return int(asked)


@cache
def share_draft_weights() -> None:
    """Let a draft model that is the pair's small model compute with the pair's own layers.

    vLLM loads a draft model with weights of its own and shares none with a target of another class. Here every layer
    that holds weights is replaced by its namesake in the pair, before anything is compiled; attention, with its KV
    cache, stays the draft's. Relies on ``DraftModelProposer.load_model``.
    """
    from vllm.v1.spec_decode.draft_model import DraftModelProposer

    load = DraftModelProposer.load_model

    def load_model(self: Any, target_model: nn.Module) -> None:
        load(self, target_model)
        if self.speculative_config.draft_model_config.model == getattr(target_model, "small_model", None):
            take_layers(self.model, target_model.get_submodule("pair"))

    DraftModelProposer.load_model = load_model  # type: ignore[method-assign]


def take_layers(model: nn.Module, source: nn.Module) -> None:
    """Replace the layers of ``model`` that hold weights by those of the same name in ``source``, without adapters."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, Attention) or next(layer.parameters(recurse=False), None) is None:
            continue
        parent, _, attribute = name.rpartition(".")
        same = source.get_submodule(name)
        setattr(model.get_submodule(parent), attribute, getattr(same, "base_layer", same))
