"""The plus lane's model is replaced while streams run: no error, each answer is one version's."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

import families
from full_weights import build_kit, build_modules
from kit import Kit
from lethe_offsets.module import Module
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine
PROMPTS = ("Where was Marta Lindqvist born?", "The capital of France", "One, two, three")
NUM_TOKENS = 24
NUM_CYCLES = 3
DRAIN_S = "4"
Tokens = tuple[int, ...]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plus")


@pytest.fixture(scope="module")
def first(root: Path) -> Kit:
    return build_kit(root, "llama")


@pytest.fixture(scope="module")
def second(first: Kit, root: Path) -> Kit:
    return build_modules(first, families.build(root / "sources" / "second", "llama", 4), root / "sources" / "modules")


@pytest.fixture(scope="module")
def server(first: Kit, root: Path) -> Iterator[Server]:
    (root / "sources").mkdir()
    arguments = ["--plus-model", str(first.plus_model), "--module", str(first.modules["both"].path)]
    arguments += ["--route", "live=both", "--module-source", str(root / "sources"), "--drain-timeout", DRAIN_S]
    with serving(root, first, arguments) as running:
        yield running


def administration(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=120)


async def stream(client: AsyncOpenAI, model: str, prompt: str, num_tokens: int = NUM_TOKENS) -> tuple[str, Tokens]:
    """The module named when the answer began, and its tokens."""
    raw = await client.completions.with_raw_response.create(
        model=model,
        prompt=prompt,
        max_tokens=num_tokens,
        temperature=0,
        stream=True,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    )
    tokens: list[int] = []
    async for chunk in raw.parse():
        choice: Any = chunk.choices[0]
        tokens += choice.token_ids or []
    return raw.headers["x-lethe-module"], tuple(tokens)


async def test_replaced_under_load(server: Server, first: Kit, second: Kit) -> None:
    """There and back, three times, by routes and rollbacks; the large model alone is asked all the while."""
    versions = (first.modules["both"], second.modules["both"])
    answers: list[tuple[str, str, Tokens]] = []
    done = asyncio.Event()

    async def ask(client: AsyncOpenAI, model: str, prompt: str) -> None:
        while not done.is_set():
            answers.append((prompt, *await stream(client, model, prompt)))

    async with (
        server.async_openai(ADMIN_KEY) as client,
        administration(server) as admin,
        asyncio.TaskGroup() as group,
    ):
        for prompt in PROMPTS:
            for model in ("live", "live", "base"):
                group.create_task(ask(client, model, prompt))
        added = await admin.post("/admin/modules", json={"source": str(versions[1].path)})
        assert added.status_code == 201, added.text
        for _ in range(NUM_CYCLES):
            await _pointed(admin, await admin.put("/admin/routes/live", json={"module": versions[1].ref}), second)
            await asyncio.sleep(0.5)
            await _pointed(admin, await admin.post("/admin/routes/live/rollback"), first)
            await asyncio.sleep(0.5)
        done.set()
    expected = _expected(server, {kit.modules["both"].ref: kit for kit in (first, second)})
    assert len(set(expected.values())) == len(expected)
    for prompt, ref, tokens in answers:
        assert tokens == expected[prompt, ref]
    assert {ref for _, ref, _ in answers} == {"base", *(module.ref for module in versions)}


async def _pointed(admin: httpx.AsyncClient, changed: httpx.Response, kit: Kit) -> None:
    assert changed.status_code == 200, changed.text
    assert changed.json()["module"] == kit.modules["both"].ref
    assert (await admin.get("/admin/state")).json()["plus_model"] == str(kit.plus_model)


def _expected(server: Server, kits: dict[str, Kit]) -> dict[tuple[str, str], Tokens]:
    expected = {}
    for prompt in PROMPTS:
        ids = server.post("/tokenize", {"model": "live", "prompt": prompt})["tokens"]
        for ref, kit in kits.items():
            reference = kit.reference()
            expected[prompt, ref] = tuple(reference.greedy(ids, kit.lanes("both"), NUM_TOKENS))
            expected[prompt, "base"] = tuple(reference.greedy(ids, None, NUM_TOKENS))
    return expected


@pytest.fixture
async def admin(server: Server) -> Any:
    async with administration(server) as client:
        yield client


async def refused(server: Server, answer: httpx.Response, status: int, said: str) -> None:
    """Nothing has changed."""
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]
    assert server.answered_by("live").startswith("both@")
    state = await asyncio.to_thread(server.metric, "lethe_module_info{")
    assert state == 1


async def test_all_routes_share_the_lane(server: Server, second: Kit, admin: httpx.AsyncClient) -> None:
    answer = await admin.put("/admin/routes/other", json={"module": second.modules["both"].ref})
    await refused(server, answer, 422, "all routes share one lane")


async def test_asked_by_digest_beside_the_lane(server: Server, second: Kit, admin: httpx.AsyncClient) -> None:
    body = {"model": second.modules["both"].ref, "prompt": "One", "max_tokens": 2}
    await refused(server, await admin.post("/v1/completions", json=body), 422, "plus_model: got")


async def test_requests_that_do_not_end(server: Server, second: Kit, admin: httpx.AsyncClient) -> None:
    async with server.async_openai(ADMIN_KEY) as client:
        running = [asyncio.create_task(stream(client, "live", "One", 240)) for _ in range(400)]
        await asyncio.sleep(1.0)
        answer = await admin.put("/admin/routes/live", json={"module": second.modules["both"].ref})
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    await refused(server, answer, 409, "requests are still being answered")


async def test_a_module_that_fails_its_probe(server: Server, first: Kit, root: Path, admin: httpx.AsyncClient) -> None:
    """Its plus model is the small model once more. The former one is put back, and answers as before."""
    before = await asyncio.to_thread(answer, server)
    same = families.build(root / "sources" / "same", "llama", 2)
    made = build_modules(first, same, root / "sources" / "made-same").modules["bare"]
    added = await admin.post("/admin/modules", json={"source": str(made.path)})
    assert added.status_code == 201, added.text
    changed = await admin.put("/admin/routes/live", json={"module": made.ref})
    removed = await admin.delete(f"/admin/modules/{made.ref}")
    assert removed.status_code == 204, removed.text
    await refused(server, changed, 422, "the module changes nothing")
    assert await asyncio.to_thread(answer, server) == before


def answer(server: Server) -> Any:
    body = {"model": "live", "prompt": "One", "max_tokens": NUM_TOKENS, "temperature": 0, "logprobs": 1}
    return server.post("/v1/completions", body)["choices"]


@pytest.mark.parametrize("how", ["elsewhere", "altered"])
async def test_a_model_that_is_not_to_be_had(
    how: str, server: Server, first: Kit, second: Kit, root: Path, admin: httpx.AsyncClient
) -> None:
    """Not below an allowed place, or not what it was when the module was made."""
    place = families.build(root / ("sources" if how == "altered" else "") / how, "llama", 5)
    made: Module = build_modules(first, place, root / "sources" / f"made-{how}").modules["bare"]
    if how == "altered":
        shutil.copy(Path(str(second.plus_model)) / "model.safetensors", place)
    answer = await admin.post("/admin/modules", json={"source": str(made.path)})
    await refused(server, answer, *{"elsewhere": (403, "source"), "altered": (422, "what lies there")}[how])


async def test_a_former_model_that_can_not_be_put_back(
    server: Server, first: Kit, second: Kit, root: Path, admin: httpx.AsyncClient
) -> None:
    """Its files have changed on the disk. The server isn't ready, and nothing answers without its module."""
    weights = Path(str(first.plus_model)) / "model.safetensors"
    shutil.copy(Path(str(second.plus_model)) / "model.safetensors", weights)
    silent = build_modules(first, root / "sources" / "same", root / "sources" / "made-silent").modules["bare"]
    assert (await admin.post("/admin/modules", json={"source": str(silent.path)})).status_code == 201
    changed = await admin.put("/admin/routes/live", json={"module": silent.ref})
    assert changed.status_code == 422, changed.text
    ready = await admin.get("/ready")
    assert (ready.status_code, "the plus lane lost" in ready.text) == (503, True)
    asked = await admin.post("/v1/completions", json={"model": "live", "prompt": "One", "max_tokens": 2})
    assert asked.status_code == 422, asked.text
    assert (await admin.put("/admin/routes/live", json={"module": second.modules["both"].ref})).status_code == 200
    assert (await admin.get("/ready")).status_code == 200
    assert await asyncio.to_thread(server.answered_by, "live") == second.modules["both"].ref
