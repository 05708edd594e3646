"""Faults of vLLM that clients or operators meet, mended here until vLLM does; each says when it can go."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from vllm.platforms import current_platform


@cache
def mend() -> None:
    """Called in every process that holds a model; only the first call does anything."""
    mend_wiping()
    mend_groups()
    if current_platform.is_cpu():
        mend_cpu_seeds()
        mend_cpu_drafts()
        mend_cpu_cache()


def mend_wiping() -> None:
    """Let the scheduler wipe blocks of the KV cache, of which it may name some in any step (``new_block_ids_to_zero``).

    vLLM's V1 runners do so only for models that need it in every step, and on the CPU not for layers of different head
    sizes in one group (0.32.0). To go when ``_zero_block_ids`` of both wipes every layer's blocks.
    """
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner

    runners: list[Any] = [GPUModelRunner]
    if current_platform.is_cpu():
        from vllm.v1.worker.cpu_model_runner import CPUModelRunner

        runners.append(CPUModelRunner)

    wipe_all = GPUModelRunner._zero_block_ids

    def zero_block_ids(self: Any, block_ids: list[int]) -> None:
        if hasattr(self, "_kv_block_zeroer"):
            return wipe_all(self, block_ids)
        num_blocks = self.kv_cache_config.num_blocks
        for layer in self.compilation_config.static_forward_context.values():
            cache = getattr(layer, "kv_cache", None)
            if isinstance(cache, Tensor) and cache.numel():
                axis = 0 if cache.shape[0] >= num_blocks else 1  # behind keys and values, in some attention backends
                shape = (*cache.shape[:axis], num_blocks, -1, *cache.shape[axis + 1 :])  # a kernel may split each
                blocks = cache.view(shape)
                blocks.index_fill_(axis, torch.tensor(block_ids, device=cache.device), 0)
        return None

    for runner in runners:
        runner._zero_block_ids = zero_block_ids


def mend_cpu_seeds() -> None:
    """Keep a seeded request whose prompt comes in several chunks from ending the engine on the CPU.

    vLLM draws a token for every chunk, drops all but the last, and rewinds the request's generator by its offset;
    CPU generators have none and raise (0.32.0). Here their state is put back instead, which is exact. To go when
    ``GPUModelRunner._bookkeeping_sync`` no longer calls ``set_offset`` on a CPU generator.
    """
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    draw, book = CPUModelRunner._sample, CPUModelRunner._bookkeeping_sync

    def unfinished(runner: Any) -> dict[int, Any]:
        mask = runner.discard_request_mask.np
        return {row: generator for row, generator in runner.input_batch.generators.items() if mask[row]}

    def sample(self: Any, *args: Any, **kwargs: Any) -> Any:
        states = [(generator, generator.get_state()) for generator in unfinished(self).values()]
        output = draw(self, *args, **kwargs)
        for generator, state in states:
            generator.set_state(state)
        return output

    def bookkeeping_sync(self: Any, *args: Any, **kwargs: Any) -> Any:
        held = unfinished(self)
        for row in held:
            del self.input_batch.generators[row]
        try:
            return book(self, *args, **kwargs)
        finally:
            self.input_batch.generators.update(held)

    CPUModelRunner._sample = sample  # type: ignore[method-assign]
    CPUModelRunner._bookkeeping_sync = bookkeeping_sync  # type: ignore[method-assign]


def mend_cpu_drafts() -> None:
    """Keep a sampled request from ending the engine, or from being sampled by another's top-k, beside drafts.

    On the CPU vLLM's ``expand_batch_to_tokens`` writes integers into a copy and gives back what lay in memory, and a
    step without a draft has no largest k (0.32.0). To go when the first gives ``[a, a, b]`` for int32 and
    ``apply_sampling_constraints`` takes no rows.
    """
    from vllm.v1.sample import rejection_sampler

    def expand_batch_to_tokens(
        x: Tensor, cu_num_tokens: Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
    ) -> Tensor:
        counts = cu_num_tokens.diff(prepend=cu_num_tokens.new_zeros(1))
        return torch.where(x == replace_from, replace_to, x).repeat_interleave(counts, output_size=num_tokens)

    constrain = rejection_sampler.apply_sampling_constraints

    def apply_sampling_constraints(logits: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return constrain(logits, *args, **kwargs) if logits.shape[0] else logits

    rejection_sampler.expand_batch_to_tokens = expand_batch_to_tokens
    rejection_sampler.apply_sampling_constraints = apply_sampling_constraints


def mend_cpu_cache() -> None:
    """Let compiled code be found again on the CPU: it is kept, but every start compiled anew.

    vLLM calls ``finalize_loading`` on what it has loaded, which only its own backend's functions have; the CPU's are
    inductor's (0.32.0). To go when a second start logs "Directly load AOT compilation".
    """
    load: Any = torch.compiler.load_compiled_function

    def load_compiled_function(*args: Any, **kwargs: Any) -> Any:
        loaded = load(*args, **kwargs)
        compiled = loaded._artifacts.compiled_fn
        if not hasattr(compiled, "finalize_loading"):
            compiled.finalize_loading = lambda config: None
        return loaded

    torch.compiler.load_compiled_function = load_compiled_function


def mend_groups() -> None:
    """Let what prepares attention for a group of layers go by these layers' heads, head size and number format.

    Most builders of attention metadata ask ``model_config`` (0.26 for all of it, 0.32 for some), which is the large
    model's also for the pair's layers: scratch memory and schedules would be sized by the wrong heads, and on the CPU
    of 0.26 the kernel divides by zero. To go when no builder asks it for what differs between layers.
    """
    from vllm.v1.worker.utils import AttentionGroup

    create = AttentionGroup.create_metadata_builders

    def create_metadata_builders(self: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        create(self, _config_of(self.layer_names, vllm_config), *args, **kwargs)

    AttentionGroup.create_metadata_builders = create_metadata_builders  # type: ignore[method-assign]


def _config_of(layer_names: list[str], vllm_config: Any) -> Any:
    """The config as these attention layers would have it; they are of one kind."""
    from vllm.config import get_layers_from_vllm_config
    from vllm.model_executor.layers.attention import Attention

    layers = get_layers_from_vllm_config(vllm_config, Attention, layer_names).values()
    kinds = {(layer.num_heads, layer.num_kv_heads, layer.head_size, layer.dtype) for layer in layers}
    if not kinds:
        return vllm_config
    if len(kinds) > 1:
        raise ValueError(f"attention layers of several kinds came into one group: {kinds}")
    ((heads, kv_heads, head_size, dtype),) = kinds
    own = copy.copy(vllm_config)
    own.model_config = model = copy.copy(vllm_config.model_config)
    model.get_num_attention_heads = lambda parallel_config: heads
    model.get_num_kv_heads = lambda parallel_config: kv_heads
    model.get_head_size = lambda: head_size
    model.dtype = dtype
    return own
