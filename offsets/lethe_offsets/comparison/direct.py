"""Direct fine-tuning: the objectives of offset training, applied to the large model itself.

The objectives see the large model in training where they otherwise see the ensemble, and as reference the logits that
it had before.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from peft import PeftModelForCausalLM
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lethe_offsets.errors import InvalidInput
from lethe_offsets.pretraining.fit import bfloat16
from lethe_offsets.training.checkpoint import fingerprint
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.data import Example, encode_set
from lethe_offsets.training.ensemble import Ensemble
from lethe_offsets.training.logits import FixedLogits, model_logits, record_logits
from lethe_offsets.training.loop import optimise
from lethe_offsets.training.loss import step_loss
from lethe_offsets.training.progress import Report
from lethe_offsets.training.reference import load_model, load_tokenizer
from lethe_offsets.training.scores import Scorer
from lethe_offsets.training.sources import load_records
from lethe_offsets.training.trainee import Trainee


def tune_directly(
    config: TrainingConfig, large: Path, forget_set: Path, retain_set: Path, out: Path, device: str, report: Report
) -> None:
    """Fine-tune the large model at ``large`` to ``out``, a Hugging Face directory.

    What it computes lies in ``<out>.training`` until then; after an interruption the same call goes on from there.
    Raises FloatingPointError if the loss or a score is not finite, InvalidInput for a rate at which nothing is left.
    """
    words, model = load_tokenizer(large), load_model(large, device)
    forget = encode_set(load_records(forget_set), words, "forget", config)
    examples = [*forget, *encode_set(load_records(retain_set), words, "retain", config)]
    folder = out.with_name(f"{out.name}.training")
    folder.mkdir(parents=True, exist_ok=True)
    fixed = record_logits(examples, model_logits(model), _no_lane, folder, getattr(torch, config.cache_dtype), report)
    trainee = direct_trainee(config, model, examples, fixed)
    scorer = Scorer.draw(trainee.ensemble, len(forget), config.seed)
    run = fingerprint(config, examples, [str(large)])
    _, kept_step = optimise(config, trainee, len(forget), scorer, folder, run, report, "large model")
    if kept_step == 0:
        raise InvalidInput(
            "learning_rate", config.learning_rate, "a lower one: with this the retain score fell at once"
        )
    _save(model, words, out)
    shutil.rmtree(folder)


def direct_trainee(
    config: TrainingConfig, model: PreTrainedModel, examples: Sequence[Example], fixed: FixedLogits
) -> Trainee:
    """``model`` itself as what is trained and scored; the minus lane of ``fixed`` is never read."""
    logits = model_logits(model)

    def adapted(ids: Tensor, mask: Tensor, asked: Tensor) -> Tensor:
        with bfloat16(model.device.type):
            return logits(ids, mask, asked)

    nothing = torch.empty(0, dtype=torch.long)
    ensemble = Ensemble(examples, fixed, adapted, config.rule, nothing, model.device, trained="lane")
    begins = torch.tensor(sorted(ensemble.unit_starts()), device=model.device)
    lanes = {"plus": cast(PeftModelForCausalLM, model)}  # only its parameters are asked for
    return Trainee(lanes, lambda indices: step_loss(config, ensemble, indices, begins), ensemble)  # type: ignore[arg-type]


def _no_lane(ids: Tensor, mask: Tensor, asked: Tensor) -> Tensor:
    return torch.zeros(int(asked.sum()), 1)


def _save(model: PreTrainedModel, words: PreTrainedTokenizerBase, out: Path) -> None:
    model.save_pretrained(out)
    words.save_pretrained(out)
