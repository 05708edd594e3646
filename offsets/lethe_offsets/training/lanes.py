"""Methods that fine-tune lanes by themselves: the retain/forget pair and the assistant of ULD.

Their losses need no logits of the large model; those are there for the scores, which are the ensemble's as ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.lora import add_adapter
from lethe_offsets.training.loss import Term, step_loss
from lethe_offsets.training.objectives import Trained
from lethe_offsets.training.trainee import Material, Trainee, offset_trainee

NONE = torch.empty(0, dtype=torch.long)


def pair_trainee(config: TrainingConfig, material: Material) -> Trainee:
    """Divergence decoding (arXiv 2605.31293): ordinary fine-tuning with and without the forget set.

    The minus lane learns the forget and the retain set, the plus lane the retain set alone and, where a record has
    it, what to say instead. Both start from the same adapter and see the retain set in the same order, so that they
    differ by the forget set only. Each has its own bound on the gradient.
    """
    lanes = {lane: add_adapter(config, material.small) for lane in config.lanes}
    plus, minus = (model_logits(lanes[lane]) for lane in ("plus", "minus"))
    alone = {
        lane: dataclasses.replace(material.ensemble(model_logits(adapted), config.rule), trained="lane")
        for lane, adapted in lanes.items()
    }
    untaught = {"plus": config.objective.name, "minus": "instead"}

    def terms(indices: Sequence[int]) -> dict[str, Term]:
        return {
            f"{lane} {name}": term
            for lane, ensemble in alone.items()
            for name, term in step_loss(config, ensemble, indices, NONE.to(ensemble.device)).items()
            if name != untaught[lane]
        }

    level = dataclasses.replace(material.fixed, minus=torch.zeros(1, 1).expand_as(material.fixed.minus))
    ensemble = dataclasses.replace(material, fixed=level).ensemble(
        lambda *asked: plus(*asked).float() - minus(*asked).float(), config.rule
    )
    return Trainee(lanes, terms, ensemble)


def assistant_trainee(config: TrainingConfig, material: Material) -> Trainee:
    """ULD (arXiv 2406.08607): an adapter on the minus lane, whose effect learns the forget set and nothing else.

    Raises InvalidInput for a record with something to say instead: the assistant is taken away from the large model,
    so it can't teach.
    """
    if any(example.kind == "instead" for example in material.examples):
        raise InvalidInput("instead", "a text", f"no such key: {config.objective.name} only takes answers away")
    minus = add_adapter(config, material.small)
    against = dataclasses.replace(config.rule, strength=-config.rule.strength)  # the offset is small model - adapted
    ensemble = material.ensemble(model_logits(minus), against)
    assistant = dataclasses.replace(ensemble, trained="assistant")
    begins = NONE.to(ensemble.device)
    return Trainee({"minus": minus}, lambda indices: step_loss(config, assistant, indices, begins), ensemble)


TRAINEES: dict[Trained, Callable[[TrainingConfig, Material], Trainee]] = {
    "ensemble": offset_trainee,
    "assistant": assistant_trainee,
    "lane": pair_trainee,
}
