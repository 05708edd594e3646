"""Models that can't be held together are refused by name before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig

import families
from kit import Kit
from lethe_offsets.errors import InvalidInput
from lethe_server.engine.service import prepare
from lethe_server.engine.spec import EngineSpec


@pytest.mark.parametrize(
    ("field", "family", "message"),
    [
        ("model", "mamba", "a model of attention layers only; mamba has others"),
        ("model", "qwen3_next", "a model of attention layers only; qwen3_next has others"),
        ("small_model", "jamba", "a model of attention layers only; jamba has others"),
        ("small_model", "deepseek_v3", "keys and values for each head; deepseek_v3 has latent ones"),
        ("small_model", "gpt_oss", "a model without attention sinks; gpt_oss has them"),
        ("small_model", "bloom", "a model whose adapters fit vLLM's layers; those of bloom do not"),
        ("small_model", "falcon", "a model whose adapters fit vLLM's layers; those of falcon do not"),
    ],
)
def test_by_config(kit: Kit, tmp_path: Path, field: str, family: str, message: str) -> None:
    AutoConfig.for_model(family, architectures=["Any"]).save_pretrained(tmp_path)
    models = {"model": str(kit.large), "small_model": str(kit.small), field: str(tmp_path)}
    with pytest.raises(InvalidInput, match=f"^{field}: got '{tmp_path}'; accepted: .*{message}"):
        prepare(EngineSpec(**models, served_model_name="kit"))


def test_no_linear_layers(kit: Kit, tmp_path: Path) -> None:
    small = families.build(tmp_path / "gpt2", "gpt2", 1)
    with pytest.raises(InvalidInput, match=r"small_model: got .*gpt2'; accepted: a model with linear layers"):
        prepare(EngineSpec(str(kit.large), str(small), "kit"))
