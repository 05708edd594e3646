"""The ensemble in plain Hugging Face: three separate forward passes with three separate caches.

Slow and plain: what the trainer's results are looked at with, and what the engine is held against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import Module
from transformers import AutoModelForCausalLM, AutoTokenizer, Cache, PreTrainedModel, PreTrainedTokenizerBase

from lethe_offsets import module as forget
from lethe_offsets import special
from lethe_offsets.digests import small_model_digest
from lethe_offsets.errors import ModuleIncompatible
from lethe_offsets.manifest import LANES
from lethe_offsets.pair import Rule, RuleRows, apply_rules

Lane = PreTrainedModel | PeftModel


def load_model(source: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model in evaluation mode, from safetensors and without remote code.

    device: ``auto`` spreads it over all GPUs, by accelerate.
    """
    spread = "auto" if device == "auto" else None
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        source, dtype=dtype, use_safetensors=True, device_map=spread
    )
    placed = model.train(False)
    if spread is None:
        placed.to(device)
    return model


def load_lane(small_model: str | Path, adapter: Path | None) -> Lane:
    """A small model of its own with the adapter of a lane, where the lane has one; float32, on the CPU."""
    model = load_model(small_model)
    return model if adapter is None else PeftModel.from_pretrained(model, str(adapter)).train(False)


def load_lanes(small_model: str | Path, module: forget.Module) -> tuple[Lane, Lane]:
    """Plus and minus, each a small model of its own; float32, on the CPU.

    The plus lane's own model, where the module has one, is loaded from where the manifest says. Raises
    ModuleIncompatible when another one lies there.
    """
    own = module.manifest.plus_model
    if own is not None and (found := small_model_digest(own.id)) != own.digest:
        raise ModuleIncompatible("plus_model", f"{own.id} ({found})", f"{own.digest}, of {module.name}")
    bases = {"plus": own.id if own is not None else small_model, "minus": small_model}
    plus, minus = (load_lane(bases[lane], module.lanes.get(lane)) for lane in LANES)
    return plus, minus


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerBase:
    """A model's tokenizer, without remote code."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source)
    return tokenizer


def special_ids(large: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Special and end-of-sequence ids, which a rule may pin: long, shape [s], as the engine has them."""
    ends = (large.config.eos_token_id, getattr(large.generation_config, "eos_token_id", None))
    return torch.tensor(special.special_ids(tokenizer.all_special_ids, ends, large.config.vocab_size), dtype=torch.long)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceEnsemble:
    """large, with the offset of plus and minus; both None for the large model alone. special_ids [s] as in pair.py."""

    large: PreTrainedModel
    plus: Module | None
    minus: Module | None
    rule: Rule
    special_ids: Tensor

    @classmethod
    def plain(cls, large: PreTrainedModel) -> ReferenceEnsemble:
        """The large model without a module."""
        return cls(large, None, None, Rule(), torch.empty(0, dtype=torch.long))

    @classmethod
    def of_module(
        cls,
        large: PreTrainedModel,
        small_model: str | Path,
        module: forget.Module,
        tokenizer: PreTrainedTokenizerBase,
    ) -> ReferenceEnsemble:
        """The large model with a forget module; each lane is a small model of its own, where the large one is.

        The small model is not checked: see ``beside.ensemble_beside``.
        """
        lanes: tuple[Module, ...] = load_lanes(small_model, module)
        plus, minus = (lane.to(large.device, large.dtype) for lane in lanes)
        return cls(large, plus, minus, module.rule, special_ids(large, tokenizer))

    @torch.inference_mode()
    def logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Logits [batch, length, vocab], float32, of ids and mask [batch, length]."""
        return self._step(ids, mask, mask.cumsum(-1).sub(1).clamp_min(0), None)[0]

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        stop_ids: Sequence[int],
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[list[int]]:
        """New tokens of each prompt, up to and without a stop id; the most probable ones at temperature 0."""
        length = max(len(prompt) for prompt in prompts)
        ids = torch.tensor([[0] * (length - len(prompt)) + list(prompt) for prompt in prompts])
        mask = torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        draw = torch.Generator().manual_seed(seed)
        stops = torch.tensor(list(stop_ids), dtype=torch.long)
        alive = torch.ones(len(prompts), dtype=torch.bool)
        caches: list[Cache | None] | None = [None, None, None]
        out: list[list[int]] = [[] for _ in prompts]
        for _ in range(max_new_tokens):
            positions = mask.cumsum(-1).sub(1).clamp_min(0)[:, -ids.shape[1] :]
            logits, caches = self._step(ids, mask, positions, caches)
            ids = _choose(logits[:, -1], temperature, draw)
            alive &= ~torch.isin(ids, stops)
            if not alive.any():
                break
            for row in alive.nonzero()[:, 0].tolist():
                out[row].append(int(ids[row]))
            ids = ids[:, None]
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
        return out

    def _step(
        self, ids: Tensor, mask: Tensor, positions: Tensor, caches: list[Cache | None] | None
    ) -> tuple[Tensor, list[Cache | None] | None]:
        """Logits of the new tokens ``ids`` [batch, new], and the caches grown by them (None: keep none)."""
        out, grown = [], []
        for place, model in enumerate((self.large, self.plus, self.minus)):
            if model is None:
                continue
            result = model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=None if caches is None else caches[place],
                use_cache=caches is not None,
            )
            out.append(result.logits.float())
            grown.append(result.past_key_values if caches is not None else None)
        if len(out) == 1:
            return out[0], caches and [grown[0], None, None]
        large, plus, minus = (logits.flatten(0, 1) for logits in out)
        rules = RuleRows.stack([self.rule]).take(torch.zeros(len(large), dtype=torch.long))
        return apply_rules(large, plus, minus, rules, self.special_ids).view_as(out[0]), caches and grown


def _choose(logits: Tensor, temperature: float, draw: torch.Generator) -> Tensor:
    """One token id for each row of ``logits`` [batch, vocab]."""
    if temperature == 0.0:
        return logits.argmax(dim=-1)
    return torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=draw)[:, 0]
