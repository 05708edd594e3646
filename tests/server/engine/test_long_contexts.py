"""8k tokens in chunks equal the reference; prefix caching serves requests with a module as well as those without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import families
from agreement import ask, random_prompts
from kit import Kit, Served, serve

CONTEXT, CHUNK, BLOCK = 8192, 1024, 32  # tokens
TOLERANCE = 3e-4  # nats
NUM_TOKENS = 4
KINDS = (None, "plus", "both")

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    root = tmp_path_factory.mktemp("long")
    settings = {"max_position_embeddings": CONTEXT, "num_attention_heads": 2, "num_hidden_layers": 2}
    large = families.build(root / "large", "qwen3", 1, **settings)
    small = families.build(root / "small", "llama", 2, **settings)
    return families.build_kit(root, large, small, "llama")


@pytest.fixture(scope="module")
def served(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve(
        kit,
        tmp_path_factory.mktemp("adapters"),
        enforce_eager=True,
        max_model_len=CONTEXT,
        max_num_batched_tokens=CHUNK,
        block_size=BLOCK,
        enable_prefix_caching=True,
        disable_log_stats=False,
    ) as found:
        yield found


def counter(served: Served, name: str) -> float:
    return sum(metric.value for metric in served.llm.get_metrics() if metric.name == name)


def test_whole_context(served: Served, kit: Kit) -> None:
    (prompt,) = random_prompts([CONTEXT - NUM_TOKENS])
    (output,) = ask(served, kit, [prompt], ["both"], prompt_logprobs=0, max_tokens=NUM_TOKENS)
    tokens = [*prompt, *output.outputs[0].token_ids]
    caches = kit.reference().caches(kit.lanes("both"))
    table = torch.cat([caches.feed(part.tolist()) for part in torch.tensor(tokens).split(CHUNK)])[:-1]
    expected = table.log_softmax(dim=-1).gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
    entries = [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]
    given = torch.tensor([entry[token].logprob for token, entry in zip(tokens[1:], entries, strict=True)])
    assert (given - expected).abs().max() < TOLERANCE
    assert list(output.outputs[0].token_ids) == table[-NUM_TOKENS:].argmax(dim=-1).tolist()


def test_prefix_cache_hits_with_and_without_modules(served: Served, kit: Kit) -> None:
    """A system prompt of 10 blocks and a bit, shared by the requests of each module but not between modules."""
    (system,) = random_prompts([10 * BLOCK + 7], seed=1)
    questions = random_prompts([20, 45, 70, 95], seed=2)
    rates = {}
    queried = sum(len(system) + len(question) for question in questions)
    hit = (len(questions) - 1) * 10 * BLOCK
    for kind in KINDS:
        before = [counter(served, f"vllm:prefix_cache_{name}") for name in ("hits", "queries")]
        for question in questions:
            ask(served, kit, [[*system, *question]], [kind], max_tokens=1)
        after = [counter(served, f"vllm:prefix_cache_{name}") for name in ("hits", "queries")]
        rates[kind] = (after[0] - before[0], after[1] - before[1])
    assert rates == dict.fromkeys(KINDS, (hit, queried))
