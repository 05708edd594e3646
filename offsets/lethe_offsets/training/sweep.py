"""Training runs over one or several learning rates; the best by score is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training.attribution import choose_rows, train_only
from lethe_offsets.training.checkpoint import fingerprint
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.lanes import TRAINEES
from lethe_offsets.training.logits import model_logits
from lethe_offsets.training.loop import optimise
from lethe_offsets.training.processes import ALONE, Processes
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.scores import Score, Scorer
from lethe_offsets.training.start import Start, start_from
from lethe_offsets.training.trainee import Material
from lethe_offsets.writing import replacing, writing

RESULT_FILE = "result.json"
LABEL = "forget module"


class RateResult(BaseModel):
    """How one learning rate did.

    score: what it is judged by (see ``scores.py``), at ``kept_step``, the step whose weights were kept; None when the
    loss or a score was not finite. scores: from before the first step on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    learning_rate: float
    score: float | None
    kept_step: int
    scores: tuple[Score, ...]


class _Done(BaseModel):
    """The file of a finished run, which ``run`` names."""

    run: str
    result: RateResult


def train_rates(
    config: TrainingConfig,
    rates: Sequence[float],
    material: Material,
    folder: Path,
    models: Sequence[str] = (),
    report: Report = silent,
    start: Start | None = None,
    processes: Processes = ALONE,
) -> list[RateResult]:
    """Train at each learning rate, instead of the config's; the results in their order.

    Adapters are in :func:`rate_folder`, a PEFT LoRA directory for each lane. ``folder``, which must be there, also
    holds the checkpoints: called again with the same arguments, the sweep goes on from there to the same result.
    models: what names the models and ``start``, for checkpoints not to be mistaken. start: weights that the adapters
    begin with. The small model stays as it is. Several ``processes`` call this with equal arguments.

    Raises InvalidInput for the checkpoint of other settings, models or data.
    """
    rows = processes.on_main(partial(_rows_to_train, config, material))
    results = []
    for rate in rates:
        own = config.model_copy(update={"learning_rate": rate})
        label = LABEL if len(rates) == 1 else f"learning rate {rate:g}"
        place = rate_folder(folder, rate)
        results.append(_train_rate(own, material, rows, place, models, report, label, start, processes))
    return results


def best(results: Sequence[RateResult]) -> RateResult:
    """The highest score; the first of equals. Raises InvalidInput when no rate gave a module that does anything."""
    found = max(results, key=lambda result: -math.inf if result.score is None else result.score)
    if found.score is None or found.kept_step == 0:
        reason = "the loss was not finite" if found.score is None else "the retain score fell at once"
        rates = [result.learning_rate for result in results]
        raise InvalidInput("learning_rate", rates, f"lower ones: with each of these {reason}")
    return found


def rate_folder(folder: Path, rate: float) -> Path:
    """Where the run with this learning rate lies."""
    return folder / f"rate-{rate!r}"


def _train_rate(
    config: TrainingConfig,
    material: Material,
    rows: dict[str, Tensor],
    folder: Path,
    models: Sequence[str],
    report: Report,
    label: str,
    start: Start | None,
    processes: Processes,
) -> RateResult:
    run = fingerprint(config, material.examples, models)
    if (done := processes.on_main(partial(_finished, folder, run))) is not None:
        return done
    folder.mkdir(exist_ok=True)
    trainee = TRAINEES[config.objective.trained](config, material)
    start_from(start or {}, trainee.lanes)
    for adapted in trainee.lanes.values() if rows else ():
        train_only(rows, adapted)
    scorer = Scorer.draw(trainee.ensemble, material.num_forget, config.seed)
    try:
        scores, kept_step = optimise(
            config, trainee, material.num_forget, scorer, folder, run, report, label, processes
        )
    except FloatingPointError:
        result = RateResult(learning_rate=config.learning_rate, score=None, kept_step=0, scores=())
    else:
        if processes.is_main:
            with writing(folder):
                trainee.save(folder)
        kept = next(score for score in scores if score.step == kept_step)
        result = RateResult(
            learning_rate=config.learning_rate,
            score=kept.against(scores[0]),
            kept_step=kept_step,
            scores=tuple(scores),
        )
    if processes.is_main:
        _finish(folder, run, result)
    return result


def _finished(folder: Path, run: str) -> RateResult | None:
    """The result of this run, where it has one."""
    path = folder / RESULT_FILE
    if not path.is_file():
        return None
    done = _Done.model_validate_json(path.read_bytes())
    return done.result if done.run == run else None


def _finish(folder: Path, run: str, result: RateResult) -> None:
    with replacing(folder / RESULT_FILE) as draft:
        draft.write_text(_Done(run=run, result=result).model_dump_json(), encoding="utf-8")


def _rows_to_train(config: TrainingConfig, material: Material) -> dict[str, Tensor]:
    """The rows that attribution chooses in each layer; empty for all of them."""
    if config.attribution_share == 1.0:
        return {}
    plain = material.ensemble(model_logits(material.small), config.rule)
    scorer = Scorer.draw(plain, material.num_forget, config.seed)
    rows = choose_rows(config.attribution_share, material.small, plain, scorer.forget, scorer.retain)
    return {name: chosen.cpu() for name, chosen in rows.items()}
