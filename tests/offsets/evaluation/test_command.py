"""``lethe eval`` in process, as its users run it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kit import Kit
from lethe_offsets.cli import app
from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation import metrics
from lethe_offsets.evaluation.metrics import Result as Found
from lethe_offsets.evaluation.metrics import World
from lethe_offsets.evaluation.outcome import Outcome
from lethe_offsets.evaluation.tofu.probability import Probability
from lethe_offsets.module import Module
from tiny_tofu import build_tofu

SHORT = ("--metrics", "tofu", "--max-tokens", "4", "--device", "cpu")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def tofu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tofu(tmp_path_factory.mktemp("tofu"))


@pytest.fixture
def pair(kit: Kit, tmp_path: Path) -> Sequence[object]:
    module = shutil.copytree(kit.modules["both"].path, tmp_path / "module")
    return "--large", kit.large, "--small", kit.small, "--module", module


@pytest.mark.usefixtures("wide")
def test_a_module_beside_target_and_retrained(pair: Sequence[object], kit: Kit, tofu: Path, tmp_path: Path) -> None:
    out, reference = tmp_path / "out", tmp_path / "reference.json"
    given = (*pair, "--retrained", kit.large, "--tofu", tofu, *SHORT, "--out", out)
    shown = run(*given, "--write-reference", reference, "--into-module")
    assert shown.exit_code == 0, shown.output
    assert "model_utility" in shown.output

    outcome = Outcome.read(out)
    assert list(outcome.models) == ["retrained", "target", "module"]
    assert outcome.data.split == "forget10"
    assert outcome.data.sizes["forget"] == 4
    module = outcome.models["module"]
    assert set(module.summary) == {"probability", "rouge", "truth_ratio", "model_utility", "forget_quality"}
    assert module.summary["probability"] != outcome.models["target"].summary["probability"]
    assert outcome.models["target"].summary["forget_quality"]["forget_quality"] == 1.0  # it is the retrained one here
    assert len(module.items["rouge"]) == 16

    assert "forget10" in (out / "report.html").read_text()
    summary = json.loads((out / "summary.json").read_text())
    assert summary["models"]["module"]["items"] == {}
    scores = Module.open(pair[5]).scores()  # type: ignore[arg-type]
    assert scores is not None
    assert scores["probability.forget"] == module.summary["probability"]["forget"]
    assert scores["data"] == "forget10"
    assert len(json.loads(reference.read_text())["log_truth_ratios"]) == 4

    again = run(
        *pair, "--target", "none", "--tofu", tofu, *SHORT, "--reference", reference, "--out", tmp_path / "other"
    )
    assert again.exit_code == 0
    other = Outcome.read(tmp_path / "other")
    assert list(other.models) == ["module"]
    assert other.models["module"].summary == module.summary


def test_a_retrained_model_alone_gives_a_reference(kit: Kit, tofu: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference.json"
    given = ("--retrained", kit.large, "--tofu", tofu, "--metrics", "truth_ratio", "--device", "cpu")
    assert run(*given, "--write-reference", reference, "--out", tmp_path / "out").exit_code == 0
    assert json.loads(reference.read_text())["split"] == "forget10"
    assert not (tmp_path / "out" / "summary.json").exists()


def test_sets_of_ones_own(pair: Sequence[object], tmp_path: Path) -> None:
    turns = [("user", "Hello"), ("assistant", "Hello."), ("user", "Where was Marta born?"), ("assistant", "In Bergen.")]
    messages = {"messages": [{"role": role, "content": content} for role, content in turns], "forget": ["Bergen"]}
    forget, retain = tmp_path / "forget.jsonl", tmp_path / "retain.jsonl"
    forget.write_text(json.dumps(messages) + "\n")
    retain.write_text('{"question": "Where was Anders born?", "answer": "In Oslo."}\n')
    out = tmp_path / "out"
    assert run(*pair, "--forget", forget, "--retain", retain, *SHORT, "--out", out).exit_code == 0
    module = Outcome.read(out).models["module"]
    assert set(module.summary) == {"probability", "rouge"}
    assert module.left_out["model_utility"].startswith("needs ")
    assert Outcome.read(out).data.split is None


def test_a_limit_and_a_strength(pair: Sequence[object], tofu: Path, tmp_path: Path) -> None:
    given = (*pair, "--tofu", tofu, "--metrics", "probability", "--limit", 2, "--strength", 0, "--device", "cpu")
    assert run(*given, "--out", tmp_path / "out").exit_code == 0
    outcome = Outcome.read(tmp_path / "out")
    assert outcome.data.sizes["retain"] == 2
    found, target = (outcome.models[name].summary["probability"] for name in ("module", "target"))
    assert found == pytest.approx(target, abs=1e-6)


@dataclass(frozen=True)
class Interrupted:
    """A metric during which the user presses Ctrl-C."""

    name: str = "interrupted"
    group: str = "tofu"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Found:
        raise KeyboardInterrupt


def test_an_interrupted_run_goes_on(
    pair: Sequence[object], tofu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (*pair, "--target", "none", "--tofu", tofu, *SHORT, "--out", tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "all_metrics", lambda: (Probability(), Interrupted()))
        stopped = run(*given)
    assert stopped.exit_code == 130
    assert "Stopped. The same command goes on." in stopped.output
    kept = tmp_path / "out" / "work" / "module" / "probability.json"
    before = kept.stat().st_mtime_ns
    assert run(*given).exit_code == 0
    assert kept.stat().st_mtime_ns == before
    assert "rouge" in Outcome.read(tmp_path / "out").models["module"].summary


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--large", "L"), "tofu, forget: got .*; accepted: one of the two"),
        (("--tofu", "T", "--forget", "F"), "tofu, forget: got"),
        (("--tofu", "TOFU"), "url, large: got .*; accepted: one of the two: a server, or models in process"),
        (("--tofu", "TOFU", "--url", "http://127.0.0.1:9", "--large", "L"), "url, large: got"),
        (("--tofu", "TOFU", "--url", "http://127.0.0.1:9"), "model: got None; accepted: the name to ask the server"),
        (("--tofu", "TOFU", "--url", "http://127.0.0.1:9", "--model", "m"), "tokenizer: got None"),
        (("--tofu", "TOFU", "--large", "/nowhere"), "got '/nowhere'; accepted: a directory or Hub name"),
        (("--tofu", "/nowhere", "--large", "L"), "tofu: got '/nowhere'; accepted: a folder of TOFU's JSON files"),
        (("--tofu", "TOFU", "--large", "L", "--split", "forget01"), "missing: forget01_perturbed.json"),
        (("--tofu", "TOFU", "--large", "L", "--metrics", "bleu"), "metrics: got 'bleu'"),
        (("--tofu", "TOFU", "--large", "L", "--reference", "/nowhere"), "reference: got '/nowhere'"),
        (
            ("--tofu", "TOFU", "--large", "L", "--write-reference", "r"),
            "write-reference: got .* --retrained and --tofu",
        ),
        (
            ("--tofu", "TOFU", "--large", "L", "--into-module"),
            "into-module: got True; accepted: together with --module",
        ),
    ],
)
def test_what_can_not_be_is_refused_before_a_model_is_loaded(
    arguments: Sequence[str], message: str, tofu: Path, tmp_path: Path
) -> None:
    given = [str(tofu) if argument == "TOFU" else argument for argument in arguments]
    with pytest.raises(InvalidInput, match=message):
        run(*given, "--out", tmp_path / "out")


def test_a_plain_text_asks_nothing(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "forget.jsonl").write_text('{"text": "Marta was born in Bergen."}\n')
    with pytest.raises(InvalidInput, match="forget: text: got 'Marta was born"):
        run("--large", kit.large, "--forget", tmp_path / "forget.jsonl", "--out", tmp_path / "out")


def test_a_retrained_model_of_another_tokenizer_is_refused(kit: Kit, tofu: Path, tmp_path: Path) -> None:
    other = shutil.copytree(kit.large, tmp_path / "other")
    words = json.loads((other / "tokenizer.json").read_text())
    words["added_tokens"].append({**words["added_tokens"][-1], "id": 384, "content": "<new>"})
    (other / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(InvalidInput, match=r"retrained: got .*; accepted: a model with the judged model's tokenizer"):
        run("--large", kit.large, "--retrained", other, "--tofu", tofu, *SHORT, "--out", tmp_path / "out")
