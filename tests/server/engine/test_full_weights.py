"""A plus lane with weights of its own: exact, alone and with adapters on top."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import families
from agreement import ask, largest_difference, random_prompts
from engine_requests import ask_all, spec
from full_weights import build_kit, build_modules
from kit import Kit, serve
from lethe_offsets.create import create_module
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.small_model import SmallModelFacts
from lethe_server.engine.service import OffsetEngine, prepare
from lethe_server.engine.spec import EngineSpec
from on_demand import EVERYTHING, on_demand

TOLERANCE = 1e-4  # nats
KINDS = (None, "bare", "both", "pinned")
# Beside those below: learned positions, norms and projections with biases, fused projections.
FAMILIES = (
    "llama",
    "llama_tied",
    "qwen2",
    "mistral",
    "gemma3_text",
    "gemma2",
    "phi3",
    "olmo2",
    "gpt_neox",
    "opt",
    "granite",
)

pytestmark = pytest.mark.engine


def check(outputs: list[Any], prompts: list[list[int]], kinds: list[str | None], kit: Kit) -> None:
    reference = kit.reference()
    for output, prompt, kind in zip(outputs, prompts, kinds, strict=True):
        assert largest_difference(output, prompt, reference, kit, kind) < TOLERANCE, kind
    assert len({tuple(output.outputs[0].token_ids) for output in outputs[: len(KINDS)]}) == len(KINDS)


@on_demand
@pytest.mark.parametrize("family", FAMILIES)
def test_exact(family: str, tmp_path: Path) -> None:
    kit = build_kit(tmp_path, family)
    prompts = [prompt for prompt in random_prompts((20, 75, 130)) for _ in KINDS]
    kinds = list(KINDS) * 3
    with serve(kit, tmp_path, enforce_eager=True, max_num_batched_tokens=96) as served:
        check(ask(served, kit, prompts, kinds, prompt_logprobs=0), prompts, kinds, kit)


async def replace(engine: OffsetEngine, kit: Kit, family: str, prompts: list[list[int]], kinds: list[Any]) -> None:
    """Another model in the plus lane, and the first one again; what fails leaves nothing that could answer."""
    first, root = engine.plus, kit.large.parent
    for name in ("other", "first"):
        plus = families.build(root / "other", family, 4) if name == "other" else root / "plus"
        now = build_modules(kit, plus, root / name)
        await engine.replace_plus(SmallModelFacts.read(plus))
        loaded = {kind: await engine.load(now.modules[kind]) if kind else None for kind in KINDS}
        check(await ask_all(engine, prompts, [loaded[kind] for kind in kinds]), prompts, kinds, now)
        for one in filter(None, loaded.values()):
            await engine.unload(one)
    with pytest.raises(InvalidInput, match=r"plus_model: got '.*/nowhere'; accepted: a model that vLLM can load"):
        await engine.replace_plus(dataclasses.replace(first, id=str(root / "nowhere")))
    with pytest.raises(ModuleIncompatible, match="not loaded"):
        await engine.load(kit.modules["bare"])
    await engine.replace_plus(first)


# The further two are run by vLLM's Transformers backend.
@pytest.mark.parametrize("family", ["qwen3", *(("olmo2", "gpt_neox") if EVERYTHING else ())])
async def test_modules_of_two_models(family: str, tmp_path: Path) -> None:
    """Compiled. They come, act and go like any other; one whose lanes run one small model is not for this server."""
    kit = build_kit(tmp_path, family)
    engine = await OffsetEngine.start(spec(kit, options={**spec(kit).options, "enforce_eager": False}))
    try:
        loaded = {kind: await engine.load(kit.modules[kind]) if kind else None for kind in KINDS}
        prompts = [prompt for prompt in random_prompts((20, 90)) for _ in KINDS]
        kinds = list(KINDS) * 2
        check(await ask_all(engine, prompts, [loaded[kind] for kind in kinds]), prompts, kinds, kit)
        for one in filter(None, loaded.values()):
            await engine.unload(one)
        await replace(engine, kit, family, prompts, kinds)
        alone = create_module("alone", kit.small, plus=tmp_path / "on-plus", out=tmp_path / "alone")
        with pytest.raises(ModuleIncompatible, match=r"plus_model: got None; accepted: that being served, .*plus"):
            await engine.load(alone)
        assert await engine.client.list_loras() == []
    finally:
        await engine.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("large", "minus", "plus")):
        families.build(root / name, "llama", seed)
    families.build(root / "deeper", "llama", 4, num_hidden_layers=3)
    families.build(root / "stretched", "llama", 5, rope_theta=5e4)
    return root


@pytest.mark.parametrize(
    ("plus", "said"),
    [("deeper", "num_hidden_layers is 3 here and 2 there"), ("stretched", "rope"), ("nowhere", "plus_model")],
)
def test_a_plus_lane_of_another_shape(plus: str, said: str, models: Path) -> None:
    asked = EngineSpec(str(models / "large"), str(models / "minus"), "kit", plus_model=str(models / plus))
    with pytest.raises(InvalidInput, match=f"plus_model: got .*{plus}.*{said}|plus_model: got .*nowhere"):
        prepare(asked)


def test_sums_need_one_small_model(models: Path) -> None:
    names = (str(models / "large"), str(models / "minus"), "kit", str(models / "plus"))
    with pytest.raises(InvalidInput, match="max_offsets_per_request: got 2; accepted: 1 beside --plus-model"):
        prepare(EngineSpec(*names, max_offsets_per_request=2))


def test_drafts_need_one_small_model(models: Path) -> None:
    asked = EngineSpec(str(models / "large"), str(models / "minus"), "kit", str(models / "plus"), draft_tokens=2)
    with pytest.raises(InvalidInput, match="draft_tokens: got 2; accepted: 0 beside --plus-model"):
        prepare(asked)
