"""Shadows on a real engine: what is measured is the reference's arithmetic, and nothing of it gets out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import CollectorRegistry

import tiny
from fakes import FakeClient
from kit import Kit
from lethe_offsets.create import create_module
from lethe_offsets.module import Module
from lethe_server.auth import Caller, Role
from lethe_server.door import Door
from lethe_server.engine.loaded import LoadedModule
from lethe_server.engine.service import OffsetEngine
from lethe_server.engine.spec import EngineSpec
from lethe_server.residents import Residents
from lethe_server.routing import RouteTable
from lethe_server.scope import RequestScope, entered
from lethe_server.shadow import ShadowRunner
from lethe_server.shadow_metrics import ShadowMetrics, short
from lethe_server.state.declared import DeclaredState, Modules, RouteSpec, Shadow, Source, Target
from reference import Reference

pytestmark = pytest.mark.engine

PROMPT = [(17 * i) % 380 + 3 for i in range(90)]  # three chunks
CALLER = Caller("test", Role.CLIENT)


class KitLoader:
    """Loads the kit's modules by reference."""

    def __init__(self, engine: OffsetEngine, modules: list[Module]) -> None:
        self.engine = engine
        self.modules = {module.ref: module for module in modules}

    async def load(self, modules: Modules, strength: float | None) -> LoadedModule:
        return await self.engine.load(self.modules[modules[0]], strength)

    async def unload(self, loaded: LoadedModule) -> None:
        await self.engine.unload(loaded)


class Setting:
    """One engine, the public name ``public`` for a module with a shadow, and what is counted."""

    def __init__(self, engine: OffsetEngine, modules: list[Module]) -> None:
        self.client = engine.client
        self.loader = KitLoader(engine, modules)
        self.residents = Residents(self.loader)
        self.routes = RouteTable(self.residents)
        self.registry = CollectorRegistry()
        self.metrics = ShadowMetrics(self.registry)
        self.shadows = ShadowRunner(self.client, self.residents, self.metrics)
        self._number = 0

    def route(self, main: Modules, shadow: Modules) -> None:
        spec = RouteSpec(targets=(Target(modules=main),), shadow=Shadow(modules=shadow, share=1.0))
        catalog = {ref: Source(ref=ref, source=str(module.path)) for ref, module in self.loader.modules.items()}
        self.routes.flip(DeclaredState(catalog=catalog, routes={"public": spec}, history={}))

    async def ask(self, shadows: ShadowRunner | None = None, **params: Any) -> list[Any]:
        """All outputs of one request, sampled unless told otherwise."""
        from vllm import SamplingParams

        sampling = SamplingParams(**{"seed": 7, "max_tokens": 12, "ignore_eos": True, **params})
        self._number += 1
        door = Door(self.client, shadows or self.shadows)
        with entered(RequestScope(CALLER, self.routes)) as scope:
            loaded = (await scope.pin("public")).loaded
            request = None if loaded is None else loaded.request("public")
            stream = door.generate({"prompt_token_ids": PROMPT}, sampling, f"ask-{self._number}", lora_request=request)
            return [output async for output in stream]

    async def compared(self) -> None:
        """Wait for the comparisons that run."""
        while self.shadows._running:
            await asyncio.wait(self.shadows._running)

    def value(self, name: str, **labels: str) -> float:
        """Sum over the series with these labels."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture(scope="module")
async def engine(kit: Kit) -> AsyncIterator[OffsetEngine]:
    options: dict[str, Any] = {"dtype": "float32", "max_model_len": 256, "block_size": 32, "enforce_eager": True}
    options |= {"max_num_batched_tokens": 32, "max_num_seqs": 16}
    engine = await OffsetEngine.start(
        EngineSpec(str(kit.large), str(kit.small), "kit", max_modules_per_batch=2, max_module_rank=32, options=options)
    )
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def reference(kit: Kit) -> Reference:
    return kit.reference()


@pytest.fixture
async def setting(engine: OffsetEngine, kit: Kit) -> AsyncIterator[Setting]:
    made = Setting(engine, list(kit.modules.values()))
    yield made
    await made.shadows.close()
    for resident in made.residents.present():
        await made.residents.put_out(resident.modules)
    assert await engine.client.list_loras() == []


def ref(kit: Kit, name: str) -> Modules:
    return (kit.modules[name].ref,)


def expected(reference: Reference, kit: Kit, main: str | None, shadow: str | None, answer: list[int]) -> Any:
    """Agreement and divergence by the reference."""
    ids = [*PROMPT, *answer]
    ours = torch.tensor(reference.scores(ids, kit.lanes(main))[-len(answer) :])
    theirs = torch.tensor(reference.scores(ids, kit.lanes(shadow))[-len(answer) :])
    best = reference.log_probs(ids, kit.lanes(shadow))[-len(answer) :].argmax(dim=-1)
    return float((best == torch.tensor(answer)).float().mean()), float((ours - theirs).mean())


@pytest.mark.parametrize(("main", "shadow"), [("plain", "both"), ("both", None), (None, "plain")])
async def test_what_is_measured_is_the_references(
    setting: Setting, kit: Kit, reference: Reference, main: str | None, shadow: str | None
) -> None:
    """Sampled answers, so that agreement is neither 0 nor 1; the prompt is cached when it is scored."""
    setting.route(ref(kit, main) if main else (), ref(kit, shadow) if shadow else ())
    outputs = await setting.ask(temperature=0.7)
    await setting.compared()

    agreement, divergence = expected(reference, kit, main, shadow, list(outputs[-1].outputs[0].token_ids))
    assert setting.value("lethe_shadow_comparisons_total", result="compared") == 1
    assert setting.value("lethe_shadow_agreement_ratio_sum") == pytest.approx(agreement, abs=1e-6)
    assert setting.value("lethe_shadow_divergence_nats_sum") == pytest.approx(divergence, abs=1e-3)
    assert abs(divergence) > 1e-2


async def test_a_shadow_that_is_the_same_module_agrees(setting: Setting, kit: Kit) -> None:
    setting.route(ref(kit, "plain"), ref(kit, "plain"))
    await setting.ask(temperature=0.0)
    await setting.compared()
    assert setting.value("lethe_shadow_agreement_ratio_sum") == 1.0
    assert setting.value("lethe_shadow_divergence_nats_sum") == pytest.approx(0.0, abs=1e-4)
    labels = {"model": "public", "module": short(ref(kit, "plain")), "shadow": short(ref(kit, "plain"))}
    assert setting.value("lethe_shadow_comparisons_total", **labels) == 1


@pytest.mark.parametrize("kind", ["CUMULATIVE", "DELTA", "FINAL_ONLY"])
async def test_streams_and_several_choices(setting: Setting, kit: Kit, reference: Reference, kind: str) -> None:
    """The first choice counts, however the answer is cut into outputs."""
    from vllm.sampling_params import RequestOutputKind

    setting.route(ref(kit, "plain"), ref(kit, "both"))
    outputs = await setting.ask(temperature=1.0, n=3, output_kind=RequestOutputKind[kind])
    await setting.compared()

    first = [list(choice.token_ids) for output in outputs for choice in output.outputs if choice.index == 0]
    answer = [token for part in first for token in part] if kind == "DELTA" else first[-1]
    assert len(answer) == 12
    agreement, divergence = expected(reference, kit, "plain", "both", answer)
    assert setting.value("lethe_shadow_agreement_ratio_sum") == pytest.approx(agreement, abs=1e-6)
    assert setting.value("lethe_shadow_divergence_nats_sum") == pytest.approx(divergence, abs=1e-3)


async def test_the_answer_is_the_one_without_a_shadow(setting: Setting, kit: Kit) -> None:
    setting.route(ref(kit, "plain"), ref(kit, "both"))
    shadowed = await setting.ask(temperature=0.9, logprobs=2)
    await setting.compared()
    with_none = ShadowRunner(setting.client, setting.residents, setting.metrics, limit=0)
    alone = await setting.ask(with_none, temperature=0.9, logprobs=2)
    assert shadowed[-1].outputs[0].token_ids == alone[-1].outputs[0].token_ids
    assert len(shadowed) == len(alone)
    assert shadowed[-1].prompt_logprobs is None


async def test_dropped_when_busy(setting: Setting, kit: Kit) -> None:
    setting.route(ref(kit, "plain"), ref(kit, "both"))
    shadows = ShadowRunner(setting.client, setting.residents, setting.metrics, limit=1)
    async with asyncio.TaskGroup() as asking:
        for _ in range(4):
            asking.create_task(setting.ask(shadows, max_tokens=1))
    while shadows._running:
        await asyncio.wait(shadows._running)
    ended = [setting.value("lethe_shadow_comparisons_total", result=name) for name in ("compared", "dropped", "failed")]
    assert ended[0] >= 1
    assert ended[1] >= 1
    assert ended == [ended[0], 4 - ended[0], 0]


async def test_leases_end_with_the_comparison(setting: Setting, kit: Kit) -> None:
    """Both modules stay in the engine while they are compared, and no longer; also when it is given up."""
    setting.route(ref(kit, "plain"), ref(kit, "both"))
    for give_up in (False, True):
        await setting.ask()
        main, shadow = (setting.residents.get(ref(kit, name)) for name in ("plain", "both"))
        assert (main.idle, shadow.idle) == (False, False)
        assert main.num_requests == 0
        await (setting.shadows.close() if give_up else setting.compared())
        await asyncio.sleep(0)
        assert (main.idle, shadow.idle) == (True, True)


async def test_a_shadow_that_can_not_be_had_harms_nobody(setting: Setting, kit: Kit, tmp_path: Path) -> None:
    adapter = tiny.random_adapter(kit.small, tmp_path / "silent", scale=0.0)
    silent = create_module("silent", kit.small, plus=adapter, out=tmp_path / "module")
    setting.loader.modules[silent.ref] = silent
    setting.route(ref(kit, "plain"), (silent.ref,))
    outputs = await setting.ask()
    await setting.compared()
    assert outputs[-1].outputs[0].finish_reason == "length"
    setting.residents.closing.add(silent.ref)
    await setting.ask()
    assert setting.value("lethe_shadow_comparisons_total", result="failed") == 2
    setting.residents.closing.clear()


async def test_an_answer_to_the_end_of_the_context(setting: Setting, kit: Kit) -> None:
    setting.route(ref(kit, "plain"), ref(kit, "plain"))
    (output,) = (await setting.ask(max_tokens=256 - len(PROMPT)))[-1:]
    await setting.compared()
    assert len(output.outputs[0].token_ids) == 256 - len(PROMPT)
    assert setting.value("lethe_shadow_comparisons_total", result="compared") == 1


async def test_an_abandoned_answer_is_not_compared(setting: Setting, kit: Kit) -> None:
    setting.route(ref(kit, "plain"), ref(kit, "both"))
    door = Door(setting.client, setting.shadows)
    from vllm import SamplingParams

    with entered(RequestScope(CALLER, setting.routes)) as scope:
        loaded = (await scope.pin("public")).loaded
        assert loaded is not None
        params = SamplingParams(max_tokens=50, ignore_eos=True)
        stream = door.generate({"prompt_token_ids": PROMPT}, params, "abandoned", lora_request=loaded.request("public"))
        await anext(stream)
        await stream.aclose()
    assert setting.value("lethe_shadow_comparisons_total") == 0
    assert not setting.shadows._running


async def test_a_request_without_a_shadow_is_not_heard(setting: Setting, kit: Kit) -> None:
    scope = RequestScope(CALLER, setting.routes)
    assert ShadowRunner(FakeClient(), setting.residents, setting.metrics).listen(scope, None) is None
