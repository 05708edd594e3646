"""Loads beside traffic: adapters are read off the engine's loop, and unloading leaves nothing behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import cloudpickle
import pytest

import tiny
from engine_requests import NUM_TOKENS, PROMPT, answer, lanes_of, spec
from kit import Kit
from lethe_offsets.create import create_module
from lethe_server.engine.probe import ProbeFailed
from lethe_server.engine.service import OffsetEngine
from reference import Reference

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
async def engine(kit: Kit) -> AsyncIterator[OffsetEngine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ALLOW_INSECURE_SERIALIZATION", "1")  # for functions of this file
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        engine = await OffsetEngine.start(spec(kit))
        yield engine
        await engine.close()


async def inside(engine: OffsetEngine, look: Any) -> Any:
    (found,) = await engine.client.collective_rpc(look)
    return found


def held(worker: Any) -> dict[str, Any]:
    """What the worker holds of adapters."""
    import gc

    from vllm.lora.lora_model import LoRAModel

    gc.collect()
    manager = worker.model_runner.lora_manager._adapter_manager
    slots = worker.model_runner.get_model()._adapters
    return {
        "in memory": len(manager._registered_adapters),
        "in slots": len(manager._active_adapters),
        "slots": list(manager.lora_index_to_id),
        "rules": len(slots._known),
        "prepared": len(worker.lethe_preparing._pending),
        "alive": sum(isinstance(each, LoRAModel) for each in gc.get_objects()),
    }


NOTHING = {"in memory": 0, "in slots": 0, "slots": [None, None], "rules": 0, "prepared": 0, "alive": 0}


async def test_unload_frees_everything(engine: OffsetEngine, kit: Kit, tmp_path: Any) -> None:
    """Also of variants, of a module that fails its probe, and of one that was asked for many times."""
    adapter = tiny.random_adapter(kit.small, tmp_path / "silent", scale=0.0)
    silent = create_module("silent", kit.small, plus=adapter, out=tmp_path / "module")
    for _ in range(3):
        loaded = [await engine.load(module) for module in kit.modules.values()]
        loaded.append(await engine.load(kit.modules["plain"], 0.5))
        with pytest.raises(ProbeFailed):
            await engine.load(silent)
        assert (await inside(engine, held))["alive"] == 4
        assert all(one.num_bytes > 1000 for one in loaded)
        await asyncio.gather(*(answer(engine, one) for one in loaded))
        for one in loaded:
            await engine.unload(one)
        assert await inside(engine, held) == NOTHING
        assert not list(engine._adapters.iterdir())


def hold_thread(worker: Any) -> None:
    """The thread that prepares adapters waits from now on."""
    import threading

    worker.test_gate = threading.Event()
    worker.lethe_preparing._thread.submit(worker.test_gate.wait)


def release_thread(worker: Any) -> None:
    worker.test_gate.set()


def watch_reads(worker: Any) -> None:
    """Remember which thread reads adapters from now on."""
    import threading

    from vllm.lora.lora_model import LoRAModel

    worker.readers = []
    plain = LoRAModel.from_local_checkpoint

    def from_local_checkpoint(*args: Any, **kwargs: Any) -> Any:
        worker.readers.append(threading.current_thread().name.partition("_")[0])
        return plain(*args, **kwargs)

    LoRAModel.from_local_checkpoint = from_local_checkpoint


def readers(worker: Any) -> list[str]:
    return list(worker.readers)


async def test_answers_go_on_while_an_adapter_is_being_read(
    engine: OffsetEngine, kit: Kit, reference: Reference
) -> None:
    """However long the reading takes: here it does not end before the answers have."""
    await inside(engine, watch_reads)
    plain = await engine.load(kit.modules["plain"])
    await inside(engine, hold_thread)
    loading = asyncio.create_task(engine.load(kit.modules["both"]))
    for _ in range(3):
        expected = reference.greedy(PROMPT, lanes_of(kit.modules["plain"]), NUM_TOKENS)
        assert await answer(engine, plain) == expected
    assert not loading.done()
    await inside(engine, release_thread)
    both = await loading
    assert await answer(engine, both) == reference.greedy(PROMPT, lanes_of(kit.modules["both"]), NUM_TOKENS)
    assert await inside(engine, readers) == ["lethe-prepare"] * 2
    for one in (plain, both):
        await engine.unload(one)
    assert await inside(engine, held) == NOTHING


async def test_a_load_that_is_given_up_leaves_nothing(engine: OffsetEngine, kit: Kit) -> None:
    await inside(engine, hold_thread)
    loading = asyncio.create_task(engine.load(kit.modules["both"]))
    while not list(engine._adapters.iterdir()):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    await inside(engine, release_thread)
    await inside(engine, drain_thread)
    assert await inside(engine, held) == NOTHING
    assert not list(engine._adapters.iterdir())


def drain_thread(worker: Any) -> None:
    worker.lethe_preparing._thread.submit(lambda: None).result()


async def test_loads_and_answers_at_once(engine: OffsetEngine, kit: Kit, reference: Reference) -> None:
    """Six loads and unloads beside answers of another module, each right."""
    module = kit.modules["ranked"]
    loaded = await engine.load(module)
    expected = reference.greedy(PROMPT, lanes_of(module), NUM_TOKENS)

    async def come_and_go(strength: float) -> list[int]:
        one = await engine.load(kit.modules["plain"], strength)
        tokens = await answer(engine, one)
        await engine.unload(one)
        return tokens

    strengths = [0.3 * (1 + number) for number in range(6)]
    answers = asyncio.gather(*(answer(engine, loaded) for _ in range(12)))
    others = await asyncio.gather(*(come_and_go(strength) for strength in strengths))
    assert await answers == [expected] * 12
    for strength, tokens in zip(strengths, others, strict=True):
        lanes = lanes_of(kit.modules["plain"], strength=strength)
        assert tokens == reference.greedy(PROMPT, lanes, NUM_TOKENS), strength
    await engine.unload(loaded)
    assert await inside(engine, held) == NOTHING
