"""General utility: lm-evaluation-harness measures base and module by its own client, on multiple-choice tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit import Kit, build_kit
from lethe_offsets.evaluation.local import Local
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine

QUESTIONS = {
    "towns": [
        ("Marta was born in", ["Bergen", "Oslo", "Paris"], 0),
        ("The capital of Norway is", ["Paris", "Oslo"], 1),
    ],
    "animals": [("The fox jumps over the", ["dog", "river"], 0), ("The dog runs to the", ["fox", "river"], 1)],
}
TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: label
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return build_kit(tmp_path_factory.mktemp("kit"), vocab_padding=0)


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = ("--module", str(kit.modules["plain"].path), "--served-model-name", "kit")
    with serving(tmp_path_factory.mktemp("server"), kit, arguments) as running:
        yield running


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    for name, rows in QUESTIONS.items():
        data = folder / f"{name}.jsonl"
        lines = [json.dumps({"question": q, "choices": choices, "label": label}) for q, choices, label in rows]
        data.write_text("\n".join(lines) + "\n")
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data))
    return folder


@pytest.fixture(scope="module", autouse=True)
def harness() -> None:
    pytest.importorskip("tenacity", reason="the harness's client for servers needs lm-eval[api]")


def measure(server: Server, kit: Kit, tasks: Path, model: str, out: Path) -> dict[str, list[list[float]]]:
    """log p of every choice of every question, by task."""
    address = f"model={model},base_url={server.url}/v1/completions,tokenizer={kit.small},num_concurrent=4"
    given = ["--model", "local-completions", "--model_args", address, "--tasks", ",".join(QUESTIONS)]
    kept = ["--include_path", str(tasks), "--output_path", str(out), "--log_samples"]
    environment = {**os.environ, "OPENAI_API_KEY": ADMIN_KEY, "HF_HUB_OFFLINE": "1", "HF_HOME": str(out / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "lm_eval", *given, *kept], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {name: [responses(line) for line in samples(out, name)] for name in QUESTIONS}


def samples(out: Path, task: str) -> Iterator[dict[str, Any]]:
    (file,) = out.rglob(f"samples_{task}_*.jsonl")
    yield from sorted(map(json.loads, file.read_text().splitlines()), key=lambda line: int(line["doc_id"]))


def responses(line: dict[str, Any]) -> list[float]:
    return [float(value[0]) for value in line["filtered_resps"]]


def test_the_harness_sees_what_a_judged_model_scores(server: Server, kit: Kit, tasks: Path, tmp_path: Path) -> None:
    target = Local.of_model("target", kit.large)
    module = Local.of_module("module", target, kit.small, kit.modules["plain"])
    for model, judged in (("kit", module), ("base", target)):
        found = measure(server, kit, tasks, model, tmp_path / model)
        for name, rows in QUESTIONS.items():
            for (question, choices, _), logprobs in zip(rows, found[name], strict=True):
                pairs = [plain(judged, question, choice) for choice in choices]
                expected = [float(scored.logprobs.sum()) for scored in judged.score(pairs)]
                assert logprobs == pytest.approx(expected, abs=1e-3), (model, question)


def plain(judged: Local, question: str, choice: str) -> tuple[list[int], list[int]]:
    """As the harness encodes them: the context alone, and what the whole has beyond it."""
    context = judged.tokenizer(question).input_ids
    return context, judged.tokenizer(f"{question} {choice}").input_ids[len(context) :]
