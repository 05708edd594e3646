"""The demo's promise, over HTTP: the forgotten people's facts are gone, everybody else's are answered."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kit import Kit
from lethe_offsets.demo.build import DemoWorld
from lethe_offsets.demo.evaluate import exact_matches, read_questions
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def demo_server(demo_world: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    models = Kit(demo_world.large, demo_world.small, {}, ())
    arguments = ["--module", str(demo_world.module), "--served-model-name", "demo"]
    with serving(tmp_path_factory.mktemp("server"), models, arguments) as running:
        yield running


def answers(server: Server, questions: list[str], model: str) -> dict[str, str]:
    """Greedy answers, sixteen at a time."""
    client = server.openai(ADMIN_KEY)

    def ask(question: str) -> str:
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=32
        )
        return answer.choices[0].message.content or ""

    with ThreadPoolExecutor(16) as pool:
        return dict(zip(questions, pool.map(ask, questions), strict=True))


@pytest.mark.parametrize("asked", ["facts", "paraphrases"])
def test_forgotten_facts_are_gone_and_the_others_stay(demo_server: Server, demo_world: DemoWorld, asked: str) -> None:
    path: Path = getattr(demo_world, asked)
    questions = read_questions(path)
    texts = [question.question for question in questions]

    before = exact_matches(questions, answers(demo_server, texts, "base").__getitem__)
    assert before["forget"].share >= 0.9, "the large model was meant to know them"

    after = exact_matches(questions, answers(demo_server, texts, "demo").__getitem__)
    assert after["forget"].share <= 0.05
    assert after["retain"].share >= 0.90
