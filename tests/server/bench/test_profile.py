"""Operations of a step, grouped."""

from __future__ import annotations

import pytest

from lethe_server.bench.profile import BETWEEN, as_markdown, group_of, groups


@pytest.mark.parametrize(
    ("name", "part", "group"),
    [
        ("_C::onednn_mm", "large", "large: linear layers"),
        ("_C::onednn_mm", "pair", "pair: linear layers"),
        ("_C::weight_packed_linear", "pair", "pair: linear layers"),
        ("aten::mm", "large", "large: linear layers"),
        ("aten::mm", "pair", "pair: adapters"),
        ("lethe::add_adapters", "pair", "pair: adapters"),
        ("_C::cpu_attention_with_kv_cache", "pair", "pair: attention"),
        ("_C::cpu_attn_reshape_and_cache", "large", "large: attention"),
        ("aten::mul", "large", "large: the rest"),
        ("_C::onednn_mm", "pair head", "pair: head"),
        ("aten::where", "model head", "rules"),
        ("aten::cat", "model", "rest of the step (sampling, inputs)"),
        ("_C::greedy_argmax", "", "rest of the step (sampling, inputs)"),
    ],
)
def test_an_operation_belongs_to_its_part(name: str, part: str, group: str) -> None:
    assert group_of(name, part) == group


def test_groups_add_up_to_the_step() -> None:
    operations = [("_C::onednn_mm", "large", 0.008), ("aten::mm", "pair", 0.002), ("aten::bmm", "pair", 0.002)]
    found = groups((0.010, 2, operations))
    assert found["large: linear layers"] == pytest.approx(0.004)
    assert found["pair: adapters"] == pytest.approx(0.002)
    assert found[BETWEEN] == pytest.approx(0.004)
    assert "| pair: adapters | 2.000 | 20.0% |" in as_markdown((0.010, 2, operations), "A step")
