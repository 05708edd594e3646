"""The pace of streams by hand, and against a running server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tiny
from kit import Kit
from lethe_offsets.errors import LetheError
from lethe_offsets.evaluation.axes import cost
from lethe_offsets.evaluation.axes.cost import Cost
from lethe_offsets.evaluation.axes.streaming import Pace, Stream, pace, run_streams
from lethe_offsets.evaluation.endpoint import Address, Served
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.metrics import NotApplicable, World
from lethe_offsets.evaluation.sets import Item, Sets
from server_process import ADMIN_KEY, CLIENT_KEY, Server, serving

SETS = Sets((Item("Where was Marta Lindqvist born?", "In Bergen."),))


def test_the_pace_of_two_streams() -> None:
    streams = [Stream(5, asked=10.0, first=11.0, last=13.0), Stream(3, asked=10.5, first=12.0, last=14.0)]
    assert pace(streams) == Pace(tokens_per_s=8 / 4, tpot_s=(2 / 4 + 2 / 2) / 2)


def test_in_process_there_is_no_cost_to_measure(judged: Local, target: Local) -> None:
    with pytest.raises(NotApplicable, match="not served"):
        Cost().run(World(judged, {"module": judged, "target": target}, SETS))


@pytest.fixture(scope="module")
def server(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = ["--module", str(kit.modules["plain"].path), "--served-model-name", "forgetful"]
    with serving(tmp_path_factory.mktemp("server"), kit, arguments) as running:
        yield running


def served(server: Server, name: str, model: str, key: str = ADMIN_KEY) -> Served:
    return Served(name, Address(server.url, model, key), tiny.tokenizer(), whole=False)


@pytest.mark.engine
def test_both_are_measured_in_turns(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "TURNS", 2)
    monkeypatch.setattr(cost, "TOKENS", 16)
    module, target = served(server, "module", "forgetful"), served(server, "target", "base")
    result = Cost().run(World(module, {"module": module, "target": target}, SETS))
    assert len(result.items) == 2
    assert min(result.summary.values()) > 0.0
    assert result.summary["target_tokens_per_s"] < 1e6
    with pytest.raises(NotApplicable, match="target is not served with a module"):
        Cost().run(World(target, {"module": module, "target": target}, SETS))


@pytest.mark.engine
def test_a_stream_has_all_its_tokens(server: Server) -> None:
    (stream,) = run_streams(Address(server.url, "forgetful", CLIENT_KEY), [[5, 6, 7]], 12)
    assert stream.tokens == 12
    assert stream.asked < stream.first < stream.last


@pytest.mark.engine
def test_a_server_that_gives_no_stream(server: Server) -> None:
    with pytest.raises(LetheError, match="404"):
        run_streams(Address(server.url, "base", CLIENT_KEY), [[5, 6]], 4)
    with pytest.raises(LetheError, match="broke off a stream"):
        run_streams(Address("http://127.0.0.1:9", "any"), [[5, 6]], 4)
