"""A real pretrained checkpoint, served: the name is gone, the stories go on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import stories
from kit import Kit
from lethe_offsets.module import Module
from server_process import ADMIN_KEY, Server, serving

pytestmark = pytest.mark.engine

OPENINGS = ("Once upon a time", "Once upon a time, there was a little girl named", "One day, a little girl")
NUM_STORIES = 50


@pytest.fixture(scope="module")
def story_server(teller: tuple[Path, Module], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model, module = teller
    arguments = ["--module", str(module.path), "--served-model-name", "teller"]
    with serving(tmp_path_factory.mktemp("stories"), Kit(model, model, {}, ()), arguments) as running:
        yield running


def tell(server: Server, model: str) -> list[str]:
    """Stories sampled at temperature 1, with the openings they were asked to go on from."""
    client = server.openai(ADMIN_KEY)

    def story(number: int) -> str:
        opening = OPENINGS[number % len(OPENINGS)]
        answer = client.completions.create(model=model, prompt=opening, max_tokens=160, temperature=1.0, seed=number)
        return opening + answer.choices[0].text

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(story, range(NUM_STORIES)))


def perplexity(server: Server, model: str, texts: list[str]) -> float:
    """exp of the mean negative log-probability of every token but the first."""
    client = server.openai(ADMIN_KEY)
    answer = client.completions.create(model=model, prompt=texts, max_tokens=0, echo=True, logprobs=0)
    scores = [score for choice in answer.choices for score in choice.logprobs.token_logprobs if score is not None]
    return math.exp(-sum(scores) / len(scores))


def test_the_name_is_gone_and_the_stories_go_on(story_server: Server) -> None:
    before = tell(story_server, "base")
    named = sum(stories.NAME in story for story in before)
    assert named >= NUM_STORIES // 4, "the model was meant to say the name often"

    after = tell(story_server, "teller")
    assert not [story for story in after if stories.NAME in story]
    assert min(len(story) for story in after) > 100, "stories were meant to go on"

    others = [story for story in before if stories.NAME not in story]
    assert perplexity(story_server, "teller", others) == pytest.approx(
        perplexity(story_server, "base", others), rel=0.05
    )
