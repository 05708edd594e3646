"""The engine as the server uses it: modules come, act, go, and nothing of one version is met by the next."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

import tiny
from engine_requests import NUM_TOKENS, PROMPT, answer, lanes_of
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.errors import ModuleCorrupt, ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_server.engine.probe import ProbeFailed
from lethe_server.engine.service import OffsetEngine
from reference import Reference

pytestmark = pytest.mark.engine


async def test_load_acts_and_unload_frees(engine: OffsetEngine, kit: Kit, reference: Reference) -> None:
    module = kit.modules["both"]
    loaded = await engine.load(module)
    assert await answer(engine, loaded) == reference.greedy(PROMPT, lanes_of(module), NUM_TOKENS)
    assert await engine.client.list_loras() == [loaded.adapter_id]
    await engine.unload(loaded)
    assert await engine.client.list_loras() == []
    assert not Path(loaded.adapter_path).exists()
    assert await answer(engine, None) == reference.greedy(PROMPT, None, NUM_TOKENS)


async def test_invariant_6_a_new_version_never_meets_the_old_ones_cache(
    engine: OffsetEngine, kit: Kit, reference: Reference, tmp_path: Path
) -> None:
    """Two versions under one name, the same prompt, prefix caching on: each answers as itself."""
    for version in ("1", "2", "1"):
        folder = tmp_path / f"{version}-{len(list(tmp_path.iterdir()))}"
        adapter = tiny.random_adapter(kit.small, folder / "adapter", rank=4, seed=70 + int(version))
        module = create_module("evolving", kit.small, plus=adapter, version=version, out=folder / "module")
        loaded = await engine.load(module)
        for _ in range(2):  # the second time from the cache
            assert await answer(engine, loaded) == reference.greedy(PROMPT, lanes_of(module), NUM_TOKENS)
        await engine.unload(loaded)


async def test_more_modules_than_slots(engine: OffsetEngine, kit: Kit, reference: Reference, tmp_path: Path) -> None:
    """Six modules at once in two slots: slots are reassigned while requests wait, rules follow."""
    modules = []
    for seed in range(6):
        adapter = tiny.random_adapter(kit.small, tmp_path / f"a{seed}", rank=2 + seed, seed=seed)
        rule = Rule(strength=0.4 + 0.2 * seed, pin_special=seed % 2 == 0)
        modules.append(create_module(f"m{seed}", kit.small, plus=adapter, rule=rule, out=tmp_path / f"m{seed}"))
    loaded = [await engine.load(module) for module in modules]
    answers = await asyncio.gather(*(answer(engine, one) for one in loaded for _ in range(2)))
    for module, first, second in zip(modules, answers[::2], answers[1::2], strict=True):
        assert first == second == reference.greedy(PROMPT, lanes_of(module), NUM_TOKENS), module.name
    for one in loaded:
        await engine.unload(one)


async def test_invariant_7_a_module_that_changes_nothing_fails_its_probe(
    engine: OffsetEngine, kit: Kit, tmp_path: Path
) -> None:
    adapter = tiny.random_adapter(kit.small, tmp_path / "silent", scale=0.0)
    silent = create_module("silent", kit.small, plus=adapter, out=tmp_path / "module")
    with pytest.raises(ProbeFailed, match="changes nothing"):
        await engine.load(silent)
    assert await engine.client.list_loras() == []


async def test_invariant_7_a_module_without_its_rule_fails_its_probe(engine: OffsetEngine, kit: Kit) -> None:
    loaded = await engine.load(kit.modules["plain"])
    await engine.probe(loaded)
    await engine.client.collective_rpc("lethe_forget", args=(loaded.adapter_id,))
    with pytest.raises(ProbeFailed, match="error"):
        await engine.probe(loaded)
    await engine.unload(loaded)


async def test_modules_that_do_not_fit_are_refused(engine: OffsetEngine, kit: Kit, tmp_path: Path) -> None:
    other = tiny.build_small(tmp_path / "other", seed=5)
    foreign = create_module(
        "foreign", other, plus=tiny.random_adapter(other, tmp_path / "foreign-adapter"), out=tmp_path / "foreign"
    )
    with pytest.raises(ModuleIncompatible, match="small_model"):
        await engine.load(foreign)
    large = create_module(
        "large", kit.small, plus=tiny.random_adapter(kit.small, tmp_path / "r", rank=40), out=tmp_path / "large"
    )
    with pytest.raises(ModuleIncompatible, match="rank: got 40; accepted: at most 32"):
        await engine.load(large)


async def test_a_module_changed_after_it_was_opened_is_refused(engine: OffsetEngine, kit: Kit, tmp_path: Path) -> None:
    shutil.copytree(kit.modules["plain"].path, tmp_path / "copy")
    module = Module.open(tmp_path / "copy")
    manifest = json.loads((tmp_path / "copy" / "offset.json").read_text())
    (tmp_path / "copy" / "offset.json").write_text(json.dumps({**manifest, "description": "something else"}))
    with pytest.raises(ModuleCorrupt):
        await engine.load(module)
