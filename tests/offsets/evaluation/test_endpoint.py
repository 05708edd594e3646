"""Servers that are not as they should be, and what is asked of those that are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

import tiny
from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.evaluation.endpoint import Address, Served
from lethe_offsets.recording import endpoint

ENTRY = {str(token): {"logprob": -1.0, "rank": 1} for token in range(10)}


@contextmanager
def answering(choice: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers with this choice ``n`` times; its address, and the requests it has seen."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append({**body, "strength": self.headers.get("X-Lethe-Strength")})
            content = json.dumps({"choices": [choice] * body.get("n", 1)}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def served(url: str, strength: float | None = None) -> Served:
    return Served("module", Address(url, "m", strength=strength), tiny.tokenizer(), whole=False)


def test_a_server_without_log_probabilities_is_refused_at_once() -> None:
    with (
        answering({"text": "Hello"}) as (url, _),
        pytest.raises(InvalidInput, match=r"url: got .*returns prompt_logprobs, as vLLM does; it returned none"),
    ):
        Served.open("module", Address(url, "m"), tiny.tokenizer())


def test_a_server_that_leaves_out_a_token_is_refused() -> None:
    with (
        answering({"prompt_logprobs": [None, ENTRY, ENTRY]}) as (url, _),
        pytest.raises(LetheError, match="prompt_logprobs lack a token that was sent"),
    ):
        served(url).score([([1], [2, 30])])


def test_a_server_that_gives_fewer_answers_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.001)
    with (
        answering({"nothing": 0}) as (url, _),
        pytest.raises(InvalidInput, match="a server that gives 2 answers; it gave 0"),
    ):
        served(url).generate([[1]], 3, num_samples=2)


def test_scores_are_asked_for_by_token_ids_and_the_first_most_probable_token_is_greedy() -> None:
    row = {"7": {"logprob": -0.1}, "2": {"logprob": -3.0}}
    with answering({"prompt_logprobs": [None, ENTRY, row]}) as (url, seen):
        (scored,) = served(url, strength=0.5).score([([1, 3], [2])])
    assert scored.logprobs.tolist() == [-3.0]
    assert scored.greedy.tolist() == [False]
    assert scored.entropy is None
    assert (seen[0]["prompt"], seen[0]["prompt_logprobs"], seen[0]["strength"]) == ([1, 3, 2], 1, "0.5")


def test_whole_distributions_are_measured() -> None:
    row = {"2": {"logprob": -0.6931472}, "3": {"logprob": -1.3862944}, "4": {"logprob": -1.3862944}}
    with answering({"prompt_logprobs": [None, row]}) as (url, seen):
        whole = Served("module", Address(url, "m"), tiny.tokenizer(), whole=True)
        (scored,) = whole.score([([1], [2])], whole=True)
    # Entropy: 1/2 log 2 + 2 * 1/4 log 4 = 3/2 log 2; log p is log 1/2 or log 1/4, each with 1/2: std is 1/2 log 2.
    assert scored.entropy is not None
    assert scored.std is not None
    assert scored.entropy.tolist() == pytest.approx([1.5 * 0.6931472])
    assert scored.std.tolist() == pytest.approx([0.5 * 0.6931472])
    assert seen[0]["prompt_logprobs"] == -1


def test_many_answers_are_asked_for_in_parts_with_seeds_of_their_own() -> None:
    with answering({"text": " Oslo. "}) as (url, seen):
        found = served(url).generate([[1], [2]], 5, num_samples=100, temperature=0.7, seed=10)
    assert [len(answers) for answers in found] == [100, 100]
    assert set(found[0]) == {"Oslo."}
    asked = sorted((body["prompt"][0], body["seed"], body["n"]) for body in seen)
    assert asked == [(1, 10, 64), (1, 74, 36), (2, 10, 64), (2, 74, 36)]
    assert all((body["temperature"], body["top_p"], body["repetition_penalty"]) == (0.7, 1.0, 1.0) for body in seen)
