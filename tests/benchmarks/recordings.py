"""What training from a recording costs against the whole logits, on the demo's world and on TOFU.

    PYTHONPATH=tests python tests/benchmarks/recordings.py --cache DIR [--tofu DIR]

DIR of TOFU holds forget01.json and retain99.json. Models, adapters and results stay below the cache; an interrupted
run goes on. About a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from recording_tasks import Task, demo_task, tofu_task
from torch import Tensor
from transformers.utils import logging

from lethe_offsets.module import Module
from lethe_offsets.recording.file import Recording, answer_places
from lethe_offsets.training.data import Example
from lethe_offsets.training.logits import pad, passes
from lethe_offsets.training.progress import Report, progress_bars
from lethe_offsets.training.recipe import train_module
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer
from lethe_offsets.training.threads import one_thread
from top_k import record_model

Numbers = dict[str, float]


class Bench:
    """One task's models, and what training makes of them. A ``top_k`` of None is the whole logits."""

    def __init__(self, task: Task, folder: Path, report: Report) -> None:
        self.task, self.folder, self.report = task, folder, report
        self.words, self.large = load_tokenizer(task.small), load_model(task.large)
        self.vocabulary = self.large.config.vocab_size
        folder.mkdir(parents=True, exist_ok=True)

    def train(self, top_k: int | None, seed: int) -> ReferenceEnsemble:
        """The large model itself, with a module trained from what is known of it."""
        task, out = self.task, self.folder / f"{top_k or 'full'}-{seed}"
        if not out.exists():
            known = {"large_model": task.large} if top_k is None else {"logits": self.recording(top_k).path}
            forget, retain = task.sets
            train_module(
                task.config.model_copy(update={"seed": seed}),
                name=out.name,
                small_model=task.small,
                forget_set=forget,
                retain_set=retain,
                out=out,
                report=self.report,
                **known,
            )
        return ReferenceEnsemble.of_module(self.large, task.small, Module.open(out), self.words)

    def recording(self, top_k: int) -> Recording:
        path = self.folder / f"top-{top_k}.safetensors"
        if not path.exists():
            record_model(self.large, [*self.task.forget, *self.task.retain], self.words, top_k, path)
        return Recording.open(path)

    def numbers(self, top_k: int | None, seed: int) -> Numbers:
        """How one run did; kept for the next time. KL is from the whole logits' run with the same seed.

        The whole logits themselves are compared with their run of the next seed: what chance alone does.
        """
        kept = self.folder / f"{top_k or 'full'}-{seed}.json"
        if not kept.exists():
            other = seed if top_k else self.task.seeds[(self.task.seeds.index(seed) + 1) % len(self.task.seeds)]
            ensemble, full = self.train(top_k, seed), self.train(None, other)
            found: Numbers = {}
            for role, examples in (("forget", self.task.forget), ("retain", self.task.retain)):
                own = [example for example in examples if example.kind == "own"]
                found[f"{role} probability"] = probability(ensemble, own)
                found[f"{role} KL"] = divergence(full, ensemble, own)
            kept.write_text(json.dumps(found | self.task.exact(ensemble)), encoding="utf-8")
        return dict(json.loads(kept.read_text(encoding="utf-8")))

    def row(self, top_k: int | None) -> dict[str, str]:
        """A row of the table: the mean over seeds, and the range."""
        runs = [self.numbers(top_k, seed) for seed in self.task.seeds]
        size, outside = 4 * self.vocabulary, 0.0
        if top_k is not None:
            size, outside = 8 * top_k, 1.0 - float(self.recording(top_k).top.logprobs.double().exp().sum(-1).mean())
        cells = {"trained from": f"top {top_k}" if top_k else "full logits", "bytes a token": f"{size}"}
        cells["mass not recorded"] = f"{outside:.1e}"
        return cells | {key: _spread([run[key] for run in runs]) for key in runs[0]}

    def before(self) -> str:
        plain = ReferenceEnsemble.plain(self.large)
        forget = [example for example in self.task.forget if example.kind == "own"]
        return f"forget {probability(plain, forget):.3f}, retain {probability(plain, self.task.retain):.3f}"


def _spread(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.4f} ({min(values):.4f} to {max(values):.4f})"


@torch.inference_mode()
def answers(ensemble: ReferenceEnsemble, examples: Sequence[Example]) -> Iterator[tuple[list[Example], Tensor]]:
    """Examples and their log-probabilities at the predicted tokens, [n, vocab], a batch at a time."""
    for batch in passes(examples):
        chosen = [examples[index] for index in batch]
        ids, mask, predicted = pad(chosen)
        yield chosen, ensemble.logits(ids, mask)[predicted].log_softmax(dim=-1)


def probability(ensemble: ReferenceEnsemble, examples: Sequence[Example]) -> float:
    """TOFU's: the mean of p(answer) ** (1 / tokens)."""
    found = []
    for chosen, rows in answers(ensemble, examples):
        tokens = torch.tensor([example.ids[place] for example in chosen for place in answer_places(example)])
        own = rows.gather(-1, tokens[:, None])[:, 0].split([len(answer_places(example)) for example in chosen])
        found += [float(part.mean().exp()) for part in own]
    return sum(found) / len(found)


def divergence(full: ReferenceEnsemble, other: ReferenceEnsemble, examples: Sequence[Example]) -> float:
    """Mean over answer tokens of KL(full || other), in nats."""
    total, count = 0.0, 0
    for (_, one), (_, two) in zip(answers(full, examples), answers(other, examples), strict=True):
        total += float((one.exp() * (one - two)).sum())
        count += len(one)
    return total / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--tofu", type=Path)
    given = parser.parse_args()
    logging.disable_progress_bar()
    with one_thread(), progress_bars() as report:
        tables = [_table(demo_task(given.cache, report), given.cache, report)]
        if given.tofu:
            tables.append(_table(tofu_task(given.cache, given.tofu, report), given.cache, report))
    print("\n".join(tables))


def _table(task: Task, cache: Path, report: Report) -> str:
    """Markdown."""
    bench = Bench(task, cache / "recordings" / task.name, report)
    rows = [bench.row(top_k) for top_k in (None, *task.top_ks)]
    lines = [f"{task.name}: {len(task.forget)} + {len(task.retain)} examples, a vocabulary of {bench.vocabulary},"]
    lines += [f"{len(task.seeds)} seeds; probability before: {bench.before()}", ""]
    lines += [f"| {' | '.join(cells)} |" for cells in (rows[0], ["---"] * len(rows[0]), *(r.values() for r in rows))]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
