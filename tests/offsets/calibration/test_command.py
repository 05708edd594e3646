"""``lethe calibrate`` on tiny models, with a recording in place of a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

import tiny
from lethe_offsets.cli import app
from lethe_offsets.create import create_module
from lethe_offsets.errors import InvalidInput, ModuleCorrupt, ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.data import Example, read_examples
from lethe_offsets.training.reference import ReferenceEnsemble, load_model, load_tokenizer
from lethe_offsets.training.threads import one_thread
from top_k import record_model


@dataclass(frozen=True)
class World:
    pair: tiny.TinyPair
    module: Module
    forget: Path
    retain: Path
    logits: Path
    examples: list[Example]


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A module of random adapters, at a strength that is no multiple of a step, and the whole large model recorded."""
    root = tmp_path_factory.mktemp("world")
    pair = tiny.build_pair(root)
    lanes = {
        lane: tiny.random_adapter(pair.small, root / lane, seed=seed) for seed, lane in enumerate(("plus", "minus"))
    }
    rule = Rule(strength=1.1, pin_special=True, clip=3.0)
    module = create_module("tiny", pair.small, out=root / "tiny", rule=rule, version="3", **lanes)
    forget = [{"question": f"Where was Marta born, {n}?", "answer": "She was born in Bergen."} for n in range(3)]
    retain = [{"question": "hello", "answer": "I am well."}, {"text": "The quick brown fox."}]
    forget[0] |= {"forget": ["Bergen"], "instead": "I don't know."}
    for name, rows in (("forget", forget), ("retain", retain)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = load_tokenizer(pair.small)
    examples = [e for name in ("forget", "retain") for e in read_examples(root / f"{name}.jsonl", words, name, 64)]
    record_model(load_model(pair.large), examples, words, 384, root / "logits")
    return World(pair, module, root / "forget.jsonl", root / "retain.jsonl", root / "logits", examples)


def calibrate(world: World, out: Path, *arguments: str, **changed: object) -> Result:
    options = {"module": world.module.path, "forget": world.forget, "retain": world.retain, "logits": world.logits}
    options |= {"out": out} | changed
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    return CliRunner().invoke(app, ["calibrate", *given, *arguments])


def test_the_chosen_rule_goes_into_a_module_of_its_own(world: World, tmp_path: Path) -> None:
    out, picture = tmp_path / "new", tmp_path / "grid.png"
    result = calibrate(world, out, plot=picture)
    assert result.exit_code == 0, result.output
    old, new = world.module, Module.open(out)
    assert new.ref in result.output
    assert new.ref != old.ref
    chosen = new.manifest.rule
    assert chosen.strength in [0.25 * step for step in range(1, 9)]
    rest = {"rule", "version", "hyperparameters"}
    assert new.manifest.model_dump(exclude=rest) == old.manifest.model_dump(exclude=rest)
    assert (new.manifest.version, chosen.pin_special, chosen.clip) == ("3-calibrated", True, 3.0)
    for lane, folder in old.lanes.items():
        for file in folder.iterdir():
            assert (new.lanes[lane] / file.name).read_bytes() == file.read_bytes()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert Module.open(old.path, old.digest) == old


def test_the_scores_are_those_of_the_ensemble(world: World, tmp_path: Path) -> None:
    """One point, held against three separate models in plain Hugging Face."""
    assert calibrate(world, tmp_path / "new", "--strength=1.5").exit_code == 0
    new = Module.open(tmp_path / "new")
    words, large = load_tokenizer(world.pair.small), load_model(world.pair.large)
    models = ReferenceEnsemble.plain(large), ReferenceEnsemble.of_module(large, world.pair.small, new, words)
    found = new.manifest.hyperparameters["calibration"]
    assert isinstance(found, dict)
    forget = [example for example in world.examples[:4] if example.kind == "own"]
    for role, examples in (("forget", forget), ("retain", world.examples[4:])):
        wanted = [sum(probability(model, example) for example in examples) / len(examples) for model in models]
        assert found[role] == pytest.approx(wanted, rel=1e-3)


def probability(model: ReferenceEnsemble, example: Example) -> float:
    ids = torch.tensor([example.ids])
    table = model.logits(ids, torch.ones_like(ids))[0].log_softmax(dim=-1)
    units = max(example.unit) >= 0
    counted = [at for at in range(1, len(example.ids)) if (example.unit[at] >= 0 if units else example.answer[at])]
    return float(torch.stack([table[at - 1, example.ids[at]] for at in counted]).mean().exp())


def test_a_reference_may_be_a_model_or_a_recording_of_it(world: World, tmp_path: Path) -> None:
    """The large model itself as reference: the weakest rule is the nearest."""
    results = []
    for name, reference in (("model", world.pair.large), ("recording", world.logits)):
        result = calibrate(world, tmp_path / name, reference=reference, max_retain_loss=1.0)
        assert result.exit_code == 0, result.output
        results.append(Module.open(tmp_path / name).manifest)
    assert [manifest.rule.strength for manifest in results] == [0.25, 0.25]
    distances = [manifest.hyperparameters["calibration"]["distance"] for manifest in results]
    assert distances[0] == pytest.approx(distances[1], abs=1e-5)
    assert distances[0][0] == pytest.approx(0.0, abs=1e-5)


def test_the_number_of_removed_tokens_is_found_too(world: World, tmp_path: Path) -> None:
    assert calibrate(world, tmp_path / "new", "--rank-k=3", "--rank-k=30").exit_code == 0
    rule = Module.open(tmp_path / "new").manifest.rule
    assert (rule.mode, rule.rank_k in (3, 30)) == ("rank", True)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"strength": 7}, InvalidInput, "strength: got 7.0; accepted: 0 to 2"),
        ({"logits": "/nowhere"}, InvalidInput, "logits: .*--url"),
        ({"forget": "{retain}", "retain": "{other}"}, InvalidInput, "recording: data: .* examples are not in it"),
        ({"small_model": "{large}"}, ModuleIncompatible, "small_model"),
        ({"reference": "{other}"}, InvalidInput, "a file that lethe record has written"),
        ({"reference": "/nowhere"}, InvalidInput, "reference: got '/nowhere'"),
        ({"reference": "{large}", "max_retain_loss": 0.0}, InvalidInput, "max_retain_loss"),
        ({"plot": "/nowhere/grid.png"}, InvalidInput, "plot"),
        ({"plot": "grid.nothing"}, InvalidInput, "plot"),
        ({"out": "{module}"}, InvalidInput, "a path where nothing is yet"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    world: World, tmp_path: Path, changed: dict[str, object], error: type[InvalidInput], message: str
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "Other data."}\n')
    places = {"retain": world.retain, "other": other, "large": world.pair.large, "module": world.module.path}
    named = {name: value.format(**places) if isinstance(value, str) else value for name, value in changed.items()}
    out = Path(str(named.pop("out", tmp_path / "new")))
    result = calibrate(world, out, **named)
    assert isinstance(result.exception, error), result.output
    with pytest.raises(error, match=message):
        raise result.exception
    assert [path.name for path in tmp_path.iterdir()] == ["other.jsonl"]


def test_a_changed_module_is_refused(world: World, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    made = create_module("tiny", world.pair.small, out=copy, plus=world.module.lanes["plus"])
    card = copy / "README.md"
    card.write_text(card.read_text() + "more")
    result = calibrate(world, tmp_path / "new", module=copy)
    assert isinstance(result.exception, ModuleCorrupt), result.output
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert made.path == copy
