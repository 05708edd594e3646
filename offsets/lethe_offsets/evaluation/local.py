"""A judged model in process: a Hugging Face model, or one with a forget module beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from lethe_offsets.beside import ensemble_beside
from lethe_offsets.digests import small_model_digest
from lethe_offsets.evaluation.generation import generate
from lethe_offsets.evaluation.models import Pair, Scored
from lethe_offsets.evaluation.scoring import score
from lethe_offsets.module import Module as ForgetModule
from lethe_offsets.training.large import sound_model, sound_tokenizer
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.reference import ReferenceEnsemble


@dataclass(frozen=True, slots=True, eq=False)
class Local:
    """ensemble: a model alone, or the pair beside it. Satisfies ``Judged``."""

    name: str
    identity: str
    tokenizer: PreTrainedTokenizerBase
    ensemble: ReferenceEnsemble

    @classmethod
    def of_model(cls, name: str, source: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Local:
        """A model alone. Raises InvalidInput where there is none."""
        tokenizer = sound_tokenizer(name, source)
        model = sound_model(name, source, device, dtype)
        return cls(name, small_model_digest(source), tokenizer, ReferenceEnsemble.plain(model))

    @classmethod
    def of_module(
        cls, name: str, target: Local, small: str | Path, module: ForgetModule, strength: float | None = None
    ) -> Local:
        """The target with a forget module, whose large model they share. strength: another than the module's.

        Raises as ``ensemble_beside``.
        """
        ensemble = ensemble_beside(target.ensemble.large, target.tokenizer, small, module, strength)
        identity = f"{module.ref} {module.manifest.small_model.digest} {target.identity} {ensemble.rule}"
        return cls(name, identity, target.tokenizer, ensemble)

    def score(self, pairs: Sequence[Pair], whole: bool = False, report: Report = silent) -> list[Scored]:
        return score(self.ensemble, pairs, whole, report)

    def generate(
        self,
        prompts: Sequence[list[int]],
        max_tokens: int,
        *,
        num_samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        report: Report = silent,
    ) -> list[list[str]]:
        stops = sorted(_stops(self.ensemble, self.tokenizer))
        found = generate(self.ensemble, prompts, stops, max_tokens, num_samples, temperature, seed, report)
        return [[plain(self.tokenizer, answer) for answer in answers] for answers in found]


def plain(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of an answer, without special tokens and spaces around it."""
    return str(tokenizer.decode(list(ids), skip_special_tokens=True)).strip()


def _stops(ensemble: ReferenceEnsemble, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """What ends an answer: as vLLM has it, the tokenizer's end and those of the large model's configs."""
    config = ensemble.large.generation_config
    ends: Iterable[int | Sequence[int] | None] = (
        tokenizer.eos_token_id,
        ensemble.large.config.eos_token_id,
        config.eos_token_id if config is not None else None,
    )
    return {i for end in ends for i in ([end] if isinstance(end, int) else end or ())}
