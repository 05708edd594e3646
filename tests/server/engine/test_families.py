"""Every family in float32 equals Hugging Face, as large model and as pair, with modules on plus and on both lanes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import families
from agreement import ask, largest_difference, random_prompts
from kit import serve
from on_demand import EVERYTHING

TOLERANCE = 1e-4  # nats
KINDS = (None, "plus", "both", "pinned")
# Large and small model: other families with one tokenizer, other depths, widths, head sizes and KV heads.
PAIRS = (
    ("qwen3_moe", "qwen2"),
    ("gemma2", "gemma3_text"),
    ("opt", "gpt_neox"),
)
# The rest of what the README lists.
MORE_PAIRS = (
    ("mixtral", "mistral"),
    ("olmo2", "phi3"),
    ("llama", "qwen2"),
    ("mistral", "llama_tied"),
    ("qwen2", "llama"),
    ("qwen3", "opt"),
    ("gemma3_text", "gemma2"),
    ("phi3", "olmo2"),
    ("gpt2", "opt"),
    ("gpt_neox", "qwen3"),
    ("granite", "granite"),
)

pytestmark = pytest.mark.engine


def misinformed(worker: Any) -> list[list[str]]:
    """In the engine: groups of layers whose attention was prepared for other heads or another format than theirs."""
    found, runner = [], worker.model_runner
    for group in (group for groups in runner.attn_groups for group in groups):
        layers = [runner.compilation_config.static_forward_context[name] for name in group.layer_names]
        config = group.get_metadata_builder().vllm_config
        model, ranks = config.model_config, config.parallel_config
        told = (model.get_num_attention_heads(ranks), model.get_num_kv_heads(ranks), model.get_head_size(), model.dtype)
        own = {(layer.num_heads, layer.num_kv_heads, layer.head_size, layer.dtype) for layer in layers}
        if own != {told}:
            found.append(list(group.layer_names))
    return found


@pytest.mark.parametrize(("large", "small"), [*PAIRS, *(MORE_PAIRS if EVERYTHING else ())])
def test_exact(large: str, small: str, tmp_path: Path) -> None:
    kit = families.build_kit(
        tmp_path,
        families.build(tmp_path / "large", large, 1),
        families.build(tmp_path / "small", small, 2, num_hidden_layers=1 if "gemma" not in small else 2),
        small,
    )
    reference = kit.reference()
    prompts = [prompt for prompt in random_prompts((20, 75, 130)) for _ in KINDS]
    kinds = [kind for _ in range(3) for kind in KINDS]
    with serve(kit, tmp_path, enforce_eager=True, max_num_batched_tokens=96) as served:
        assert served.inside(misinformed) == []
        outputs = ask(served, kit, prompts, kinds, prompt_logprobs=0)
    for output, prompt, kind in zip(outputs, prompts, kinds, strict=True):
        assert largest_difference(output, prompt, reference, kit, kind) < TOLERANCE, kind
    assert len({tuple(output.outputs[0].token_ids) for output in outputs[:4]}) == len(KINDS)
