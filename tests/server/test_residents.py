from __future__ import annotations

import asyncio

import pytest

from fakes import resident
from lethe_offsets.errors import InvalidInput, ModuleNotFound
from lethe_server.residents import Residents


async def test_drained_once_every_lease_is_released() -> None:
    held = resident("a")
    with held.request():
        with held.lease():
            assert held.num_requests == 1
            assert not await held.drained(0.01)
        assert not await held.drained(0.01)
    assert held.num_requests == 0
    assert await held.drained(0.01)


async def test_a_lease_is_released_when_its_block_fails() -> None:
    held = resident("a")
    with pytest.raises(RuntimeError, match="inside"), held.request():
        raise RuntimeError("inside")
    assert await held.drained(0)


async def test_waiting_ends_with_the_last_lease() -> None:
    held = resident("a")
    with held.lease():
        waiting = asyncio.create_task(held.drained(5))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting


def test_modules_by_name_reference_and_prefix() -> None:
    residents = Residents()
    one, two, other = resident("a", "1"), resident("a", "2"), resident("b")
    for each in (one, two, other):
        residents.add(each)
    assert residents.get("b") is other
    assert residents.get(two.ref) is two
    assert residents.find(one.ref) is one
    assert residents.find("b") is None
    with pytest.raises(InvalidInput, match="one of"):
        residents.get("a")
    residents.remove(one)
    assert residents.get("a") is two
    with pytest.raises(ModuleNotFound):
        residents.get(one.ref)
    assert residents.modules() == [two, other]


def test_the_base_is_no_module() -> None:
    residents = Residents()
    assert (residents.base.ref, residents.base.label) == ("base", "none")
    with pytest.raises(ValueError, match="always resident"):
        residents.add(residents.base)
