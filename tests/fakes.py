"""An engine that fails, dies or hangs on demand, which a real one can't be made to do.

What a real engine can show is shown on one, in ``test_api_*`` and ``engine/``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lethe_offsets.manifest import Manifest
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_server.engine.loaded import LoadedModule
from lethe_server.residents import Resident


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def module(name: str, content: str = "") -> Module:
    """A module that exists in memory only; ``content`` decides its digest."""
    manifest = Manifest.build(
        format_version=1,
        name=name,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        description="what it forgets",
        small_model={"id": "small", "digest": digest("small")},
        tokenizer_digest=digest("tokenizer"),
        vocab_size=16,
        algorithm="none",
        rule=Rule(),
        strength_bounds=(0.0, 2.0),
        lanes=("plus",),
        licence="none",
    )
    return Module(Path("/nowhere") / name, manifest, digest(name + content))


def resident(name: str, content: str = "", adapter_id: int = 1) -> Resident:
    made = module(name, content)
    return Resident((made.ref,), loaded=LoadedModule((made,), adapter_id, f"/adapters/{adapter_id}", 0.5))


def answer(finish_reason: str | None = "stop") -> Any:
    """As much of vLLM's RequestOutput as the door reads."""
    choice = SimpleNamespace(finish_reason=finish_reason, token_ids=[5, 6])
    return SimpleNamespace(outputs=[choice], prompt_token_ids=[1, 2, 3], metrics=None)


class FakeClient:
    """vLLM's engine client: answers with ``answers`` and remembers under which adapter it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers = answers
        self.asked: list[Any] = []
        self.closed = 0
        self.errored = False

    async def generate(
        self, prompt: Any, params: Any, request_id: str, *, lora_request: Any = None, **options: Any
    ) -> AsyncIterator[Any]:
        self.asked.append(lora_request)
        try:
            for item in self.answers:
                yield item
        finally:
            self.closed += 1

    async def encode(self) -> None:
        raise AssertionError("the door let encode through")


class FakeEngine:
    """An engine that loads any module at once; ``failure`` is raised instead, if set.

    held: what is in it, by number; most_held: the most that ever were. running: loads under way, which wait while
    ``open`` is not set.
    """

    plus = None

    def __init__(self) -> None:
        self.held: dict[int, LoadedModule] = {}
        self.most_held = 0
        self.running = 0
        self.open = asyncio.Event()
        self.open.set()
        self.failure: Exception | None = None
        self.dead: Exception | None = None
        self.unloaded: list[str] = []
        self._next = 0

    async def load(self, loading: Sequence[Module], strength: float | None = None) -> LoadedModule:
        self.running += 1
        await self.open.wait()
        self.running -= 1
        if self.failure is not None:
            raise self.failure
        self._next += 1
        loaded = LoadedModule(tuple(loading), self._next, f"/adapters/{self._next}", 0.5, strength, 1000)
        self.held[self._next] = loaded
        self.most_held = max(self.most_held, len(self.held))
        return loaded

    async def unload(self, loaded: LoadedModule) -> None:
        await self.open.wait()
        del self.held[loaded.adapter_id]
        self.unloaded.append(loaded.ref)

    async def check(self) -> None:
        if self.dead is not None:
            raise self.dead
