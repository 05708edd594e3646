"""``lethe eval`` against a running server: the numbers are those of the same models in process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch.testing import assert_close
from typer.testing import CliRunner

import tiny
from kit import Kit, build_kit
from lethe_offsets.cli import app
from lethe_offsets.errors import InvalidInput
from lethe_offsets.evaluation.endpoint import Address, Served
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.metrics import Result, World
from lethe_offsets.evaluation.outcome import Outcome
from lethe_offsets.evaluation.run import Evaluation
from lethe_offsets.evaluation.tofu.data import read_tofu
from lethe_offsets.evaluation.tofu.probability import Probability
from lethe_offsets.evaluation.tofu.rouge import Rouge
from lethe_offsets.evaluation.work import Work
from lethe_offsets.training.reference import load_tokenizer
from server_process import ADMIN_KEY, CLIENT_KEY, Server, serving
from tiny_tofu import build_tofu

pytestmark = pytest.mark.engine

WHOLE_VOCABULARY = "-1"
PAIRS = [([5, 6, 7], [8, 9, 10, 300]), ([5, 6, 7], [20]), ([0, 31], [40, 50, 60, 70, 80])]


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return build_kit(tmp_path_factory.mktemp("kit"), vocab_padding=0)


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    module = str(kit.modules["both"].path)
    arguments = ("--module", module, "--served-model-name", "kit", "--max-logprobs", WHOLE_VOCABULARY)
    with serving(tmp_path_factory.mktemp("server"), kit, arguments) as running:
        yield running


@pytest.fixture(scope="module")
def tofu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tofu(tmp_path_factory.mktemp("tofu"))


@pytest.fixture(scope="module")
def local(kit: Kit) -> Local:
    target = Local.of_model("target", kit.large)
    return Local.of_module("module", target, kit.small, kit.modules["both"])


@pytest.fixture
def served(server: Server, kit: Kit) -> Served:
    address = Address(server.url, kit.modules["both"].ref, ADMIN_KEY)
    return Served.open("module", address, load_tokenizer(kit.small))


def run(out: Path, *arguments: object) -> Outcome:
    given = ["eval", "--metrics", "tofu", "--max-tokens", "12", "--out", out, *arguments]
    result = CliRunner().invoke(app, list(map(str, given)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return Outcome.read(out)


def comparable(item: dict[str, Any]) -> dict[str, Any]:
    """Without characters that a random model never finished: vLLM leaves out the last one."""
    return {key: value for key, value in item.items() if key != "said"}


def test_every_number_is_the_same_both_ways(server: Server, kit: Kit, tofu: Path, tmp_path: Path) -> None:
    module = ("--module", kit.modules["both"].path)
    retrained = tiny.build_large(tmp_path / "retrained", seed=9)
    questions = ("--tofu", tofu, "--retrained", retrained)
    models = ("--large", kit.large, "--small", kit.small, *module, "--device", "cpu")
    here = run(tmp_path / "here", *models, *questions)
    at = ("--url", server.url, "--model", kit.modules["both"].ref, "--api-key", ADMIN_KEY, "--tokenizer", kit.small)
    there = run(tmp_path / "there", *at, *questions, "--device", "cpu")

    assert list(here.models) == list(there.models) == ["retrained", "target", "module"]
    for name in ("module", "target"):
        ours, theirs = here.models[name], there.models[name]
        assert ours.left_out == theirs.left_out == {}
        assert ours.summary.keys() == theirs.summary.keys()
        for metric, summary in ours.summary.items():
            assert theirs.summary[metric] == pytest.approx(summary, abs=1e-4), metric
            for item, other in zip(ours.items[metric], theirs.items[metric], strict=True):
                assert comparable(other) == pytest.approx(comparable(item), abs=1e-4), metric
    module_rouge, target_rouge = (there.models[name].items["rouge"] for name in ("module", "target"))
    assert [item["said"] for item in module_rouge] != [item["said"] for item in target_rouge]


def test_scores_are_the_same_both_ways_with_whole_distributions(served: Served, local: Local) -> None:
    assert served.whole
    for ours, theirs in zip(local.score(PAIRS, whole=True), served.score(PAIRS, whole=True), strict=True):
        for name in ("logprobs", "greedy", "entropy", "std"):
            assert_close(getattr(theirs, name), getattr(ours, name), atol=1e-4, rtol=1e-4)


def test_many_answers_are_drawn(served: Served) -> None:
    found = served.generate([[5, 6, 7], [9]], 4, num_samples=70, temperature=1.0, seed=1)
    assert [len(answers) for answers in found] == [70, 70]
    assert len(set(found[0])) > 20
    assert found == served.generate([[5, 6, 7], [9]], 4, num_samples=70, temperature=1.0, seed=1)


def test_the_module_that_answers_is_named_and_must_be_the_given_one(
    server: Server, served: Served, kit: Kit, tofu: Path, tmp_path: Path
) -> None:
    assert served.answering == kit.modules["both"].ref
    assert kit.modules["both"].digest in served.identity
    at = ("--url", server.url, "--model", "kit", "--api-key", ADMIN_KEY, "--tofu", tofu)
    with pytest.raises(InvalidInput, match=r"module: got 'plain@.*accepted: both@sha256:.*which answers for kit"):
        run(tmp_path / "out", *at, "--module", kit.modules["plain"].path)


def test_a_client_key_has_no_target(server: Server, kit: Kit, tofu: Path, tmp_path: Path) -> None:
    at = ("--url", server.url, "--model", "kit", "--api-key", CLIENT_KEY, "--tokenizer", kit.small, "--tofu", tofu)
    with pytest.raises(InvalidInput, match=r"target: got 'base'; .*--target none"):
        run(tmp_path / "out", *at)


@pytest.mark.parametrize(
    ("model", "key", "message"),
    [("nobody", ADMIN_KEY, "model: got 'nobody'; accepted: one of kit"), ("kit", "wrong", "api key: got")],
)
def test_what_the_server_does_not_take(
    model: str, key: str, message: str, server: Server, kit: Kit, tofu: Path, tmp_path: Path
) -> None:
    at = ("--url", server.url, "--model", model, "--api-key", key, "--tokenizer", kit.small, "--tofu", tofu)
    with pytest.raises(InvalidInput, match=message):
        run(tmp_path / "out", *at, "--target", "none")


@dataclass(frozen=True)
class Death:
    """Ends the server."""

    server: Server
    name: str = "death"
    group: str = "none"
    needs: frozenset[str] = frozenset()

    def run(self, world: World) -> Result:
        self.server.process.kill()
        self.server.process.wait()
        return Result({})


def test_a_server_that_dies_leaves_the_finished_metrics(
    server: Server, served: Served, local: Local, tofu: Path, tmp_path: Path
) -> None:
    """The last test: the server is gone after it."""
    sets = read_tofu(tofu, "forget10")
    dying = Evaluation({"module": served}, sets, [Probability(), Death(server), Rouge()])
    with pytest.raises(InvalidInput, match=r"url: got .*; accepted: a server that can be reached"):
        dying.run(Work(tmp_path))
    found = Evaluation({"module": served}, sets, [Probability()]).run(Work(tmp_path))
    expected = Evaluation({"module": local}, sets, [Probability()]).run(Work(tmp_path / "local"))
    assert found["module"].summary["probability"] == pytest.approx(expected["module"].summary["probability"], abs=1e-4)
