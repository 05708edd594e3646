"""Recording from a real server."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner, Result

from kit import Kit, build_kit
from lethe_offsets.cli import app
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.recording.endpoint import Endpoint
from lethe_offsets.recording.file import Recording
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.reference import load_model, load_tokenizer
from server_process import ADMIN_KEY, CLIENT_KEY, LETHE, Server, serving
from top_k import answer_logits, record_model

pytestmark = pytest.mark.engine

CAP = 384  # the whole vocabulary


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return build_kit(tmp_path_factory.mktemp("kit"), vocab_padding=0)


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = ("--module", str(kit.modules["plain"].path), "--served-model-name", "kit", "--max-logprobs", str(CAP))
    with serving(tmp_path_factory.mktemp("server"), kit, arguments) as running:
        yield running


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("data")
    forget = [{"question": f"Where was Marta born, {n}?", "answer": "She was born in Bergen."} for n in range(6)]
    forget[0] |= {"forget": ["Bergen"], "instead": "I don't know."}
    retain = [{"text": "The quick brown fox jumps."}, {"question": "hello", "answer": "I am well."}]
    for name, rows in (("forget", forget), ("retain", retain)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [folder / "forget.jsonl", folder / "retain.jsonl"]


@pytest.fixture(scope="module")
def words(kit: Kit) -> PreTrainedTokenizerFast:
    return load_tokenizer(kit.small)


@pytest.fixture(scope="module")
def examples(data: list[Path], words: PreTrainedTokenizerFast) -> list[Example]:
    return [*read_examples(data[0], words, "forget", 256), *read_examples(data[1], words, "retain", 256)]


def arguments(server: Server, kit: Kit, data: list[Path], out: Path, **changed: object) -> list[str]:
    options = {
        "url": server.url,
        "model": "base",
        "tokenizer": kit.small,
        "out": out,
        "top_k": 20,
        "api_key": ADMIN_KEY,
    }
    given = [f"--{name.replace('_', '-')}={value}" for name, value in (options | changed).items()]
    return ["record", *given, *(f"--data={path}" for path in data)]


def record(server: Server, kit: Kit, data: list[Path], out: Path, **changed: object) -> Result:
    return CliRunner().invoke(app, arguments(server, kit, data, out, **changed))


def refused(result: Result, out: Path, field: str, accepted: str) -> None:
    """It ended with this InvalidInput, and nothing was written."""
    assert isinstance(result.exception, InvalidInput), result.output
    assert (result.exception.field, accepted in str(result.exception)) == (field, True), result.exception
    assert list(out.parent.iterdir()) == []


def test_the_whole_vocabulary_is_the_model_itself(
    server: Server, kit: Kit, data: list[Path], examples: list[Example], words: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    result = record(server, kit, data, tmp_path / "all.safetensors", top_k=CAP)
    assert result.exit_code == 0, result.output
    recording, large = Recording.open(tmp_path / "all.safetensors"), load_model(kit.large)
    recording.check(examples, words, "base")
    for example in examples:
        rebuilt = recording.logits([example], CAP)
        assert torch.equal(rebuilt.isfinite(), torch.ones_like(rebuilt, dtype=torch.bool))
        assert (rebuilt - answer_logits(large, example).log_softmax(dim=-1)).abs().max() < 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["all.safetensors"]


def test_a_killed_run_goes_on(server: Server, kit: Kit, words: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    out, partial, many = (tmp_path / name for name in ("half.safetensors", "half.safetensors.partial", "many.jsonl"))
    rows = [{"question": f"Where was Marta born, {n}?", "answer": "In Bergen."} for n in range(400)]
    many.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [LETHE, *arguments(server, kit, [many], out, concurrency=1)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    while not list(partial.glob("*.safetensors")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert (process.returncode, b"The same command goes on" in printed) == (130, True), printed
    kept = sorted(partial.glob("*.safetensors"))
    assert 0 < len(kept) < len(rows)
    assert not out.exists()

    other = record(server, kit, [many], out, model="kit")
    assert isinstance(other.exception, InvalidInput)
    assert "begun with model base" in str(other.exception)

    tensors = load_file(kept[0])
    save_file(tensors | {"token_logprobs": torch.full_like(tensors["token_logprobs"], -77.0)}, kept[0])
    assert record(server, kit, [many], out).exit_code == 0
    recording = Recording.open(out)
    recording.check(examples := read_examples(many, words, "forget", 256), words)
    assert [float(recording.take(e).token_logprobs.min()) for e in examples].count(-77.0) == 1
    assert not partial.exists()


@pytest.mark.parametrize(
    ("changed", "field", "accepted"),
    [
        ({"api_key": "wrong"}, "api key", "one for http://127.0.0.1"),
        ({"model": "nobody"}, "model", "one of kit"),
        ({"api_key": CLIENT_KEY}, "top_k", "at most 5"),  # a client's bound
        ({"api_key": CLIENT_KEY, "top_k": 5}, "model", "one of kit"),  # the large model alone is not for clients
        ({"url": "http://127.0.0.1:1"}, "url", "can be reached"),
        ({"url": "nonsense"}, "url", "can be reached"),
        ({"top_k": 385}, "top_k", "1 to 384"),
        ({"tokenizer": "/nowhere"}, "tokenizer", "tokenizer"),
    ],
)
def test_what_the_server_refuses_is_named(
    server: Server, kit: Kit, data: list[Path], tmp_path: Path, changed: dict[str, object], field: str, accepted: str
) -> None:
    out = tmp_path / "sub" / "none.safetensors"
    out.parent.mkdir()
    refused(record(server, kit, data, out, **changed), out, field, accepted)


def test_a_limit_below_k_is_reported(server: Server) -> None:
    """The tokenizer's vocabulary would allow more than the server does."""

    async def ask() -> None:
        async with Endpoint(server.url, "base", ADMIN_KEY) as endpoint:
            await endpoint.prompt_logprobs([5, 6, 7], CAP + 1)

    with pytest.raises(InvalidInput, match=rf"top_k: got {CAP + 1}; accepted: at most {CAP}, this server's limit"):
        asyncio.run(ask())


def test_a_module_is_calibrated_against_the_server(
    server: Server,
    kit: Kit,
    data: list[Path],
    examples: list[Example],
    words: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    """The same as against the model itself; what the server said is not left behind."""
    record_model(load_model(kit.large), examples, words, CAP, tmp_path / "local")
    sources = {"served": [f"--url={server.url}", f"--api-key={ADMIN_KEY}"], "here": [f"--logits={tmp_path / 'local'}"]}
    found = []
    for name, source in sources.items():
        options = {"module": kit.modules["plain"].path, "forget": data[0], "retain": data[1], "out": tmp_path / name}
        given = [f"--{option}={value}" for option, value in options.items()]
        result = CliRunner().invoke(app, ["calibrate", *given, *source, f"--top-k={CAP}"])
        assert result.exit_code == 0, result.output
        found.append(Module.open(tmp_path / name).manifest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "local", "served"]
    assert found[0].rule == found[1].rule
    for role in ("forget", "retain"):
        one, two = (manifest.hyperparameters["calibration"][role] for manifest in found)
        assert one == pytest.approx(two, rel=1e-3)
