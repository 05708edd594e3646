"""Fine-tuned models made here, by adding known differences to a tiny one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

import tiny
from full_disk import full_disk
from lethe_offsets.conversion.convert import convert
from lethe_offsets.conversion.difference import linears
from lethe_offsets.digests import small_model_digest
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule
from lethe_offsets.training.reference import load_model
from lethe_offsets.training.threads import one_thread

WIDTH = 64  # the smaller side of every layer but k_proj and v_proj, which have 32
K_PROJ = "model.layers.0.self_attn.k_proj"


@pytest.fixture(autouse=True, scope="module")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


def retuned(base: Path, out: Path, changes: Mapping[str, Tensor]) -> Path:
    """A copy of ``base`` with these added to its weights."""
    model = load_model(base)
    weights = dict(model.named_parameters())
    with torch.no_grad():
        for name, change in changes.items():
            weights[name] += change
    model.save_pretrained(out)
    tiny.tokenizer().save_pretrained(out)
    return out


def noise(*shape: int, seed: int, scale: float = 0.02) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def tuned(small_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every linear layer changed, at full rank."""
    changes = {
        f"{name}.weight": noise(*layer.weight.shape, seed=seed)
        for seed, (name, layer) in enumerate(linears(load_model(small_path)).items())
    }
    return retuned(small_path, tmp_path_factory.mktemp("tuned"), changes)


def logits(model: Callable[..., object]) -> Tensor:
    with torch.no_grad():
        return model(torch.arange(3, 60)[None]).logits  # type: ignore[attr-defined]


def served(module: Module, base: Path, lane: str = "plus") -> Tensor:
    adapted = PeftModel.from_pretrained(load_model(base), str(module.lanes[lane]))  # type: ignore[index]
    return logits(adapted.train(False))


def test_a_rank_that_holds_the_difference_gives_the_tuned_logits(small_path: Path, tmp_path: Path) -> None:
    changes = {
        f"model.layers.{layer}.self_attn.{name}.weight": noise(rows, 3, seed=layer, scale=0.3) @ noise(3, 64, seed=rows)
        for layer in (0, 1)
        for name, rows in (("q_proj", 64), ("k_proj", 32))
    }
    tuned = retuned(small_path, tmp_path / "tuned", changes)
    module, errors = convert(tuned, small_path, rank=3, out=tmp_path / "m", name="m")
    torch.testing.assert_close(served(module, small_path), logits(load_model(tuned)), atol=1e-4, rtol=1e-4)
    assert [error.rank for error in errors] == [1, 2, 3, None]
    assert errors[2].kept == pytest.approx(1.0, abs=1e-6)
    assert errors[2].largest < 1e-4 < errors[0].largest
    assert set(module.adapters()["plus"].pairs) == {name.removesuffix(".weight") for name in changes}


def test_a_merged_lora_is_recovered_at_its_own_rank(small_path: Path, plus_adapter: Path, tmp_path: Path) -> None:
    merged = PeftModel.from_pretrained(load_model(small_path), str(plus_adapter)).merge_and_unload()
    expected = logits(merged)
    merged.save_pretrained(tmp_path / "tuned")
    tiny.tokenizer().save_pretrained(tmp_path / "tuned")
    module, errors = convert(tmp_path / "tuned", small_path, rank=4, out=tmp_path / "m", name="m")
    torch.testing.assert_close(served(module, small_path), expected, atol=1e-4, rtol=1e-4)
    assert errors[-2].kept > 0.999999


def test_the_error_is_the_one_that_is_served(small_path: Path, tuned: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello, how are you?\n\nThe capital of France is Paris.\n")
    module, errors = convert(tuned, small_path, rank=8, out=tmp_path / "m", name="m", text=text)
    adapted = PeftModel.from_pretrained(load_model(small_path), str(module.lanes["plus"])).train(False)
    gaps = []
    with torch.no_grad():
        for line in ("hello, how are you?", "The capital of France is Paris."):
            ids = torch.tensor([tiny.tokenizer()(line).input_ids])
            gaps.append((adapted(ids).logits - load_model(tuned)(ids).logits).abs().flatten())
    assert errors[-2].rank == 8
    assert errors[-2].mean == pytest.approx(float(torch.cat(gaps).mean()), rel=1e-3)
    assert errors[-2].largest == pytest.approx(float(torch.cat(gaps).max()), rel=1e-3)


def test_more_rank_leaves_less(small_path: Path, tuned: Path, tmp_path: Path) -> None:
    module, errors = convert(tuned, small_path, rank=32, out=tmp_path / "m", name="m")
    assert [error.rank for error in errors] == [1, 2, 4, 8, 16, 32, None]
    kept = [error.kept for error in errors]
    assert kept == sorted(kept)
    assert 0.5 < kept[-2] < 1.0
    assert errors[-1].mean < 1e-5 < errors[-2].mean < errors[0].mean
    layer = load_model(small_path).get_submodule(K_PROJ).weight
    whole = load_model(tuned).get_submodule(K_PROJ).weight - layer
    pair = module.adapters()["plus"].pairs[K_PROJ]
    torch.testing.assert_close(pair.b @ pair.a, whole.detach(), atol=1e-5, rtol=1e-4)


def test_the_minus_lane_and_the_rule_are_as_asked(small_path: Path, tuned: Path, tmp_path: Path) -> None:
    rule = Rule(strength=0.8, plausibility=0.01)
    module, errors = convert(tuned, small_path, rank=2, out=tmp_path / "m", name="m", lane="minus", rule=rule)
    assert module.manifest.lanes == ("minus",)
    assert module.rule == rule
    recorded = module.manifest.hyperparameters
    assert recorded["tuned"] == small_model_digest(tuned)
    assert [row["rank"] for row in recorded["logit_error"]] == [1, 2, None]  # type: ignore[index,union-attr,call-overload]
    assert recorded["logit_error"][1]["mean"] == errors[1].mean  # type: ignore[index,call-overload]


def test_other_weights_are_refused_unless_they_may_be_lost(small_path: Path, tmp_path: Path) -> None:
    one = torch.zeros(64)
    one[0] = 0.1
    changes = {f"{K_PROJ}.weight": noise(32, 1, seed=0) @ noise(1, 64, seed=1), "model.norm.weight": one}
    tuned = retuned(small_path, tmp_path / "tuned", changes)
    linear = float(changes[f"{K_PROJ}.weight"].square().sum())
    share = 0.01 / (0.01 + linear)
    with pytest.raises(InvalidInput, match=rf"tuned: got '{share:.2%} .* model.norm.weight'.*--ignore-other-weights"):
        convert(tuned, small_path, rank=1, out=tmp_path / "m", name="m")
    assert not (tmp_path / "m").exists()
    module, errors = convert(tuned, small_path, rank=1, out=tmp_path / "m", name="m", ignore_other_weights=True)
    assert module.manifest.hyperparameters["other_share"] == pytest.approx(share, rel=1e-3)
    assert errors[-1].mean > 1e-4  # the norm's part stays


def test_a_tied_embedding_counts_once(tmp_path: Path) -> None:
    base = tiny.build_small(tmp_path / "base", tie_word_embeddings=True)
    embedding = noise(*load_model(base).get_input_embeddings().weight.shape, seed=0)
    tuned = retuned(
        base, tmp_path / "tuned", {"model.embed_tokens.weight": embedding, f"{K_PROJ}.weight": torch.ones(())}
    )
    with pytest.raises(InvalidInput, match=r"outside the linear layers: model.embed_tokens.weight'; accepted"):
        convert(tuned, base, rank=1, out=tmp_path / "m", name="m")


@pytest.mark.parametrize("rank", [0, 33])
def test_a_rank_that_no_layer_has_is_refused(small_path: Path, tuned: Path, tmp_path: Path, rank: int) -> None:
    with pytest.raises(InvalidInput, match=rf"rank: got {rank}; accepted: from 1 to 32, the largest that .*k_proj has"):
        convert(tuned, small_path, rank=rank, out=tmp_path / "m", name="m")
    assert list(tmp_path.iterdir()) == []


def test_models_that_do_not_belong_together_are_refused(small_path: Path, tuned: Path, tmp_path: Path) -> None:
    wider = tiny.build_small(tmp_path / "wider", hidden=32)
    deeper = tiny.build_small(tmp_path / "deeper", layers=3)
    words = Path(shutil.copytree(tuned, tmp_path / "words"))
    tiny.tokenizer(vocab_size=300).save_pretrained(words)
    padded = tiny.build_small(tmp_path / "padded", vocab_padding=5)
    for other, message in (
        (wider, r"tuned: lm_head.weight: got '\[\d+, 32\]'; accepted: \[\d+, 64\], as in"),
        (deeper, r"tuned: model.layers.2.*; accepted: no weight, as in"),
        (words, "tuned: got .*; accepted: a model with the tokenizer of"),
        (padded, r"tuned: lm_head.weight"),
        (tmp_path / "nowhere", "tuned: got .*nowhere'; accepted: a directory or Hub name"),
        (small_path, "tuned: got .*; accepted: a model whose linear layers differ from"),
    ):
        with pytest.raises((InvalidInput, ModuleIncompatible), match=message):
            convert(other, small_path, rank=1, out=tmp_path / "m", name="m")
    assert not (tmp_path / "m").exists()


def test_numbers_that_are_not_finite_are_refused(small_path: Path, tmp_path: Path) -> None:
    tuned = retuned(small_path, tmp_path / "tuned", {f"{K_PROJ}.weight": torch.tensor(torch.nan)})
    with pytest.raises(InvalidInput, match=rf"tuned: {K_PROJ}.weight: got 'NaN or infinity'"):
        convert(tuned, small_path, rank=1, out=tmp_path / "m", name="m")


@pytest.mark.parametrize("content", [None, b"\n \n", b"\xff\xfe\x00"])
def test_a_text_that_is_none_is_refused(small_path: Path, tuned: Path, tmp_path: Path, content: bytes | None) -> None:
    text = tmp_path / "text"
    if content is not None:
        text.write_bytes(content)
    with pytest.raises(InvalidInput, match="text: got"):
        convert(tuned, small_path, rank=1, out=tmp_path / "m", name="m", text=text)
    assert not (tmp_path / "m").exists()


def test_what_lies_at_out_stays(small_path: Path, tuned: Path, tmp_path: Path) -> None:
    (tmp_path / "m").write_text("precious")
    with pytest.raises(InvalidInput, match="out: got"):
        convert(tuned, small_path, rank=1, out=tmp_path / "m", name="m")
    assert (tmp_path / "m").read_text() == "precious"


def test_a_full_disk_leaves_nothing_behind(small_path: Path, tuned: Path, tmp_path: Path) -> None:
    with full_disk(), pytest.raises(InvalidInput, match=r"out: got .* a path that can be written"):
        convert(tuned, small_path, rank=8, out=tmp_path / "m", name="m")
    assert list(tmp_path.iterdir()) == []
