"""The numbers of an evaluation in the order and the words in which a person reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from lethe_offsets.evaluation.outcome import Outcome

Kind = Literal["left", "kept", "speech", "cost"]
Scale = Literal["share", "auc", "number"]
ORDER = ("target", "module", "retrained")
NAMES = {"target": "before", "module": "with the module", "retrained": "retrained without it"}


@dataclass(frozen=True, slots=True)
class Measure:
    """A number that has a place on the page.

    keys: ``metric.number``, the first that is there; ``{k}`` stands for the largest number of samples or steps. scale:
    a share of 1, an AUC of which 0.5 is chance, or a number of its own.
    """

    kind: Kind
    keys: tuple[str, ...]
    title: str
    meaning: str
    scale: Scale = "share"


SECRET = "the share of names, numbers and dates of the answer that the reply says"


def _asked(metric: str, title: str, meaning: str) -> Measure:
    return Measure("left", (f"{metric}.told", f"{metric}.rouge"), title, meaning)


MEASURES = (
    _asked("plain", "Asked plainly", f"The questions of the forget set as they are: {SECRET}."),
    _asked("paraphrased", "Asked in other words", "The same questions, paraphrased."),
    _asked("indirect", "Asked indirectly", "Questions that get at the answer by a detour."),
    _asked("jailbreak", "Asked with a jailbreak", "Frames that press or trick the model into answering."),
    _asked("languages", "Asked in other languages", "The questions in frames of other languages."),
    _asked("mixed", "Asked beside something else", "One prompt asks for something forgotten and something kept."),
    _asked("reteaching", "With other facts in the prompt", "Facts about the same subject stand before the question."),
    Measure(
        "left",
        ("leak.told_{k}", "leak.rouge_{k}"),
        "Asked {k} times",
        "What the best of {k} sampled answers tells, in expectation. A model that never knew guesses right at times.",
    ),
    Measure("left", ("probability.forget",), "Probability of the answers", "Of each word of them, on average."),
    Measure(
        "left", ("rouge.forget",), "Words of the answers", "The share of their words that the reply has (ROUGE-L)."
    ),
    Measure(
        "left",
        ("extraction.strength",),
        "Extraction strength",
        "The share of an answer that comes word for word once the rest is given.",
    ),
    Measure("left", ("extraction.exact",), "Memorised words", "The share of words that are the most probable ones."),
    Measure(
        "left",
        ("membership.loss",),
        "Membership inference",
        "Can one tell that this was trained on? 50% is chance; far below 50% the avoidance itself is seen.",
        "auc",
    ),
    Measure(
        "left",
        ("relearning.unseen_{k}",),
        "After {k} steps of relearning",
        "Probability of forgotten answers that were not shown again, when others were.",
    ),
    Measure(
        "left",
        ("guidance.told_w2", "guidance.rouge_w2"),
        "With both models in hand",
        "Guidance extraction: what someone gets who holds the model before and after. A client gets one of them only.",
    ),
    Measure(
        "left", ("quantised.forget_4",), "Pair in 4 bit", "Probability of the answers with the pair rounded to 4 bit."
    ),
    Measure("kept", ("probability.retain",), "Probability of answers to keep", "Of each word of them, on average."),
    Measure("kept", ("rouge.retain",), "Words of the answers to keep", "The share of their words that the reply has."),
    Measure(
        "kept",
        ("neighbours.told", "neighbours.rouge"),
        "Nearest to the scope",
        "Questions most like the forgotten ones.",
    ),
    Measure(
        "kept",
        ("mixed.kept_told", "mixed.kept_rouge"),
        "Asked beside something forgotten",
        "The kept half of such prompts.",
    ),
    Measure("kept", ("probability.real_authors",), "Real authors", "Probability of the right one of several answers."),
    Measure("kept", ("probability.world_facts",), "World facts", "Probability of the right one of several answers."),
    Measure("kept", ("model_utility.model_utility",), "Model utility", "TOFU's harmonic mean of nine such numbers."),
    Measure("kept", ("quantised.retain_4",), "Pair in 4 bit", "Answers to keep, with the pair rounded to 4 bit."),
    Measure(
        "speech",
        ("fluency.perplexity",),
        "Perplexity",
        "How odd the replies are to the model before; 1 is the least.",
        "number",
    ),
    Measure("speech", ("fluency.repetition",), "Repetition", "The share of word groups that stand there twice."),
    Measure("speech", ("fluency.empty",), "Empty replies", "The share of them."),
    Measure("speech", ("entropy.entropy",), "Entropy", "How unsure the model is of its next word, in nats.", "number"),
    Measure(
        "cost", ("cost.speed",), "Speed with the module", "Tokens a second, as a share of those without.", "number"
    ),
    Measure("cost", ("cost.tpot",), "Time for a token", "With the module, as a multiple of that without.", "number"),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A measure with its numbers, by model."""

    measure: Measure
    key: str
    title: str
    meaning: str
    values: Mapping[str, float]

    def shown(self, model: str) -> str:
        """The number as it stands on the page."""
        value = self.values[model]
        if self.measure.scale != "number":
            return f"{100 * value:.1f}%"
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"

    def width(self, model: str) -> float:
        """The bar's length in percent of the longest one possible; of the longest one there, for a number."""
        top = max(self.values.values()) if self.measure.scale == "number" else 1.0
        return 100.0 * max(0.0, min(1.0, self.values[model] / top)) if top > 0 else 0.0


def numbers(outcome: Outcome) -> dict[str, dict[str, float]]:
    """Every number by ``metric.number`` and model."""
    found: dict[str, dict[str, float]] = {}
    for model in (name for name in ORDER if name in outcome.models):
        for metric, summary in outcome.models[model].summary.items():
            for name, value in summary.items():
                found.setdefault(f"{metric}.{name}", {})[model] = value
    return found


def measured(outcome: Outcome) -> Iterator[Found]:
    """The measures that the judged model has a number of, in their order."""
    return among(numbers(outcome))


def among(known: Mapping[str, Mapping[str, float]]) -> Iterator[Found]:
    """The measures among numbers by ``metric.number`` and model, in their order; those without ``module`` left out."""
    for measure in MEASURES:
        for pattern in measure.keys:
            key, k = _largest(pattern, known)
            if key is not None and "module" in known[key]:
                title, meaning = (text.replace("{k}", k) for text in (measure.title, measure.meaning))
                yield Found(measure, key, title, meaning, known[key])
                break


def _largest(pattern: str, known: Mapping[str, object]) -> tuple[str | None, str]:
    """The key of this pattern, with the largest number in the place of ``{k}``; and that number."""
    exact = re.compile(re.escape(pattern).replace(re.escape("{k}"), r"(\d+)") + "$")
    found = [
        (match.group(0), match.group(1) if "{k}" in pattern else "") for key in known if (match := exact.match(key))
    ]
    return max(found, key=lambda pair: int(pair[1] or 0), default=(None, ""))
