"""The vLLM model that holds three: the large model, and the small one in two lanes for each pair."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.model_executor.models.interfaces import SupportsLoRA

from lethe_server.engine import compat, compat_adapters, compat_packing, compat_weights, kernels
from lethe_server.engine.adapters import AdapterSlots, SlotRule
from lethe_server.engine.clock import Clock
from lethe_server.engine.lanes import lane_rows
from lethe_server.engine.logits import OffsetLogitsProcessor
from lethe_server.engine.mends import mend
from lethe_server.engine.spec import PairConfig

PAIR_PREFIX = "pair"
PLUS_PREFIX = "plus"


class LetheForCausalLM(nn.Module, SupportsLoRA):
    """Large model and pair behind vLLM's model interface.

    ``forward`` returns ``[large hidden | hidden of each lane | slot]`` for every token, so each row that reaches
    ``compute_logits`` says which module it belongs to. The lanes are minus and plus, once for each pair.
    """

    # The inner models' classes are vLLM's choice at run time.
    large: Any
    pair: Any
    plus: Any  # the plus lane's own model, where it has one
    logits_processor: Any
    _pair_ids: Tensor
    _pair_positions: Tensor

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        mend()
        compat.share_draft_weights()
        pair = PairConfig.read(compat.additional_config(vllm_config))
        self.config = vllm_config.model_config.hf_config
        self.small_model = None if pair.plus_model else pair.small_model
        self.small_config = compat.small_model_config(vllm_config, pair, pair.small_model)
        # An empty prefix: the large model's layer names, quantization lists and KV layout are those of plain serving.
        self.large = compat.build_large(vllm_config, pair)
        self.pair = compat.build_pair(vllm_config, self.small_config, pair, PAIR_PREFIX)
        self.plus = None
        if pair.plus_model:
            self._plus_config = partial(compat.small_model_config, vllm_config, pair)
            self.plus = compat.build_plus(vllm_config, self._plus_config(pair.plus_model), pair, PLUS_PREFIX)
            compat_weights.join_weights(self.pair, self.plus)
        self._plus_model = pair.plus_model
        self._vllm_config = vllm_config
        self._clock = Clock()
        dtypes: Any = (vllm_config.model_config.dtype, self.small_config.dtype)  # torch's own once vLLM has read them
        self.logits_processor = OffsetLogitsProcessor(
            self.config.get_text_config().vocab_size,
            pair.num_pairs,
            pair.special_ids,
            not pair.speculative,
            self._clock,
            dtypes,
        )
        self.packed_modules_mapping = dict(getattr(self.pair, "packed_modules_mapping", {}))
        self.hf_to_vllm_mapper = compat_adapters.AdapterNames(self.pair, PAIR_PREFIX)
        compat_adapters.restrict_adapters(vllm_config, self.pair, PAIR_PREFIX)
        # Ids in the large model's padding are no tokens; the small model may have no embedding for them.
        small_vocab = self.small_config.get_vocab_size()
        wider = self.config.get_text_config().vocab_size > small_vocab
        self._last_small_id = small_vocab - 1 if wider else None
        self._max_tokens = vllm_config.scheduler_config.max_num_batched_tokens
        self._num_lanes = pair.lanes
        rows = pair.lanes * self._max_tokens
        self.register_buffer("_pair_ids", torch.zeros(rows, dtype=torch.long), persistent=False)
        self.register_buffer("_pair_positions", torch.zeros(rows, dtype=torch.long), persistent=False)
        self._fused = pair.compile and compat.on_cpu()
        if self._fused:
            kernels.load(compat.cache_folder())
        self._side = compat.side_stream(vllm_config, self) if pair.side_stream else None
        self._adapters: AdapterSlots | None = None
        self._lora_manager: Any = None

    @property
    def lora_manager(self) -> Any:
        return self._lora_manager

    @lora_manager.setter
    def lora_manager(self, manager: Any) -> None:
        """vLLM's adapter manager announces itself here once it has wrapped the pair's linear layers."""
        self._lora_manager = manager
        lora = manager.lora_config
        self._adapters = AdapterSlots(
            lora.max_loras,
            lora.max_lora_rank,
            self._max_tokens,
            manager.device,
            self._fused,
            lora.max_cpu_loras,
            self._num_lanes // 2,
        )
        compat_adapters.install_adapter_slots(manager, self._adapters)

    def register_rule(self, adapter_id: int, entry: SlotRule) -> None:
        self._slots().register(adapter_id, entry)

    def forget_rule(self, adapter_id: int) -> None:
        self._slots().forget(adapter_id)

    def count_rows(self, adapter_id: int) -> None:
        self._slots().count(adapter_id)

    def read_counts(self) -> dict[str, Any]:
        """What ``Reading.of`` takes, as plain values."""
        slots, clock = self._slots(), self._clock
        models_s, pair_s, evictions = clock.models.seconds, clock.pair.seconds, slots.evictions
        clock.models.seconds = clock.pair.seconds = 0.0
        slots.evictions = 0
        timed = compat.on_cpu()
        return {
            "tallies": slots.tallies.read(),
            "slots_used": slots.used,
            "slot_evictions": evictions,
            "models_s": models_s if timed else None,
            "pair_s": pair_s if timed else None,
        }

    def _slots(self) -> AdapterSlots:
        if self._adapters is None:
            raise RuntimeError("the engine was started without adapters; start it through lethe")
        return self._adapters

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        embedded: Tensor = self.large.embed_input_ids(input_ids)
        return embedded

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        with self._clock.models:
            return self._forward(input_ids, positions)

    def _forward(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        adapters = self._adapters
        if adapters is not None and not adapters.any_module and compat.serving():
            large = self.large(input_ids, positions)
            # Nothing is asked of the pair. NaN: should its rows be looked at all the same, their requests fail.
            width = self._num_lanes * self.small_config.get_hidden_size()
            lanes = large.new_full((large.shape[0], width), torch.nan, dtype=self.small_config.dtype)
        elif self._side is not None and compat.may_fork():
            large, lanes = self._side_by_side(input_ids, positions, self._side)
        else:
            large, lanes = self.large(input_ids, positions), self._lanes(input_ids, positions)
        if adapters is None:
            slots = torch.full_like(large[:, :1], -1)
        else:
            slots = adapters.token_slots[: large.shape[0], None].to(large.dtype)
        return torch.cat([large, lanes, slots], dim=-1)

    def _side_by_side(self, input_ids: Tensor, positions: Tensor, side: torch.cuda.Stream) -> tuple[Tensor, Tensor]:
        """Large model and pair on two streams that part here and meet again, also within a captured graph."""
        main = torch.cuda.current_stream()
        side.wait_stream(main)
        with torch.cuda.stream(side):
            lanes = self._lanes(input_ids, positions)
        large = self.large(input_ids, positions)
        main.wait_stream(side)
        lanes.record_stream(main)
        return large, lanes

    def _lanes(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        """[n, lanes * small hidden]."""
        known = input_ids if self._last_small_id is None else input_ids.clamp_max(self._last_small_id)
        with self._clock.pair:
            lanes: Tensor = self.pair(
                lane_rows(known, self._pair_ids, self._num_lanes),
                lane_rows(positions, self._pair_positions, self._num_lanes),
            )
        return lanes.view(input_ids.shape[0], -1)

    def compute_logits(self, hidden_states: Tensor) -> Tensor | None:
        with self._clock.models:
            logits: Tensor | None = self.logits_processor(self.large, self.pair, hidden_states, self._adapters)
        return logits

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        loaded = {f"large.{name}" for name in self.large.load_weights(weights)}
        loaded |= compat.load_small_weights(self.pair, self.small_config, PAIR_PREFIX)
        if self._plus_model is not None:
            loaded |= self._load_plus(self._plus_model)
        return loaded

    def replace_plus(self, model: str) -> None:
        """Let the plus lane run ``model``, in place: compiled code and graphs hold the weights' addresses.

        Raises ValueError where that can't be.
        """
        if self.plus is None:
            raise ValueError("the plus lane has no weights of its own; start the server with --plus-model")
        compat_packing.make_room(self.plus)
        with set_current_vllm_config(self._vllm_config):
            self._load_plus(model)
        compat_packing.pack(self.plus)

    def _load_plus(self, model: str) -> set[str]:
        return compat.load_small_weights(self.plus, self._plus_config(model), PLUS_PREFIX)
