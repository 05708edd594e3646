"""What plain transformers generates with the pair, against the plain ensemble, which reads every row anew."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import LogitsProcessor

from lethe_offsets.create import create_module
from lethe_offsets.errors import InvalidInput
from lethe_offsets.notebook import Pair, load_pair
from lethe_offsets.pair import Rule
from lethe_offsets.training.reference import ReferenceEnsemble

PAD, END = 2, 1
PROMPTS = [[0, 40, 50, 60, 70], [0, 91], [0, 120, 130, 140]]


def left(prompts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask, padded on the left."""
    length = max(map(len, prompts))
    ids = torch.tensor([[PAD] * (length - len(prompt)) + prompt for prompt in prompts])
    return ids, torch.tensor([[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts])


class Anew(LogitsProcessor):
    """The ensemble's log-probabilities by whole passes; the scores of ``generate`` are not looked at."""

    def __init__(self, ensemble: ReferenceEnsemble, prompts: list[list[int]] = PROMPTS) -> None:
        self.ensemble, self.mask = ensemble, left(prompts)[1]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        mask = torch.ones_like(input_ids)
        repeats, length = len(input_ids) // len(self.mask), self.mask.shape[1]
        mask[:, :length] = self.mask.repeat_interleave(repeats, dim=0)
        return self.ensemble.logits(input_ids, mask)[:, -1].log_softmax(-1).clone()


def run(pair: Pair, processor: LogitsProcessor, prompts: list[list[int]] = PROMPTS, **options: Any) -> Any:
    ids, mask = left(prompts)
    torch.manual_seed(0)
    settings = {"max_new_tokens": 9, "top_k": 0, "return_dict_in_generate": True, "output_scores": True, **options}
    return pair.ensemble.large.generate(ids, attention_mask=mask, logits_processor=[processor], **settings)


def new_tokens(sequences: Tensor, prompts: list[list[int]] = PROMPTS) -> list[list[int]]:
    rows = sequences[:, max(map(len, prompts)) :].tolist()
    return [row[: row.index(END)] if END in row else row for row in rows]


@contextmanager
def lengths_read(pair: Pair) -> Iterator[list[int]]:
    """How many tokens of each row the minus lane reads, pass by pass."""
    found: list[int] = []
    lane = pair.ensemble.minus
    assert lane is not None
    hook = lane.register_forward_pre_hook(
        lambda _, __, inputs: found.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        yield found
    finally:
        hook.remove()


@pytest.mark.parametrize("lanes", ["both", "plus", "minus"])
def test_greedy_answers_are_the_ensembles(
    lanes: str, pair: Pair, small_path: Path, plus_adapter: Path, minus_adapter: Path, tmp_path: Path
) -> None:
    if lanes != "both":
        adapters = {lanes: {"plus": plus_adapter, "minus": minus_adapter}[lanes]}
        module = create_module(lanes, small_path, out=tmp_path / lanes, rule=Rule(strength=1.5), **adapters)
        pair = load_pair(module, small_path, pair.ensemble.large, pair.tokenizer)
    with lengths_read(pair) as lengths:
        found = run(pair, pair.processor(left(PROMPTS)[1]))
    assert lengths == [5, *[1] * (len(found.scores) - 1)]
    expected = pair.ensemble.generate(PROMPTS, 9, [END])
    assert new_tokens(found.sequences) == expected
    assert expected != ReferenceEnsemble.plain(pair.ensemble.large).generate(PROMPTS, 9, [END])


@pytest.mark.parametrize("options", [{}, {"num_return_sequences": 3}, {"temperature": 0.6, "top_p": 0.9}], ids=str)
def test_sampling_draws_from_the_ensembles_distribution(options: dict[str, Any], pair: Pair) -> None:
    found = run(pair, pair.processor(left(PROMPTS)[1]), do_sample=True, **options)
    expected = run(pair, Anew(pair.ensemble), do_sample=True, **options)
    assert found.sequences.tolist() == expected.sequences.tolist()
    assert len(found.sequences) == 3 * options.get("num_return_sequences", 1)
    assert_close(torch.stack(found.scores), torch.stack(expected.scores), atol=1e-4, rtol=0)


@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("rule", [Rule(pin_special=True), Rule(strength=1.3)], ids=["pinned", "plain"])
def test_beams_are_those_of_whole_passes_and_are_read_once(rule: Rule, do_sample: bool, pair: Pair) -> None:
    pair = replace(pair, ensemble=replace(pair.ensemble, rule=rule))
    options = {"num_beams": 4, "num_return_sequences": 2, "do_sample": do_sample}
    with lengths_read(pair) as lengths:
        found = run(pair, pair.processor(left(PROMPTS)[1]), **options)
    expected = run(pair, Anew(pair.ensemble), **options)
    assert found.sequences.tolist() == expected.sequences.tolist()
    assert_close(found.sequences_scores, expected.sequences_scores, atol=1e-4, rtol=0)
    assert lengths == [5, *[1] * (len(lengths) - 1)]
    before, after = found.beam_indices[:, 1:-1], found.beam_indices[:, 2:]
    assert ((before != after) & (after >= 0)).any()  # the caches' rows had to move


def test_rows_that_change_places_tell_padding_from_a_token_of_its_id(pair: Pair) -> None:
    prompts = [[PAD, 40, 50], [40, 50]]
    processor, anew = pair.processor(left(prompts)[1]), Anew(pair.ensemble, prompts)
    ids = left(prompts)[0].repeat_interleave(2, dim=0)
    for order, tokens in (([0, 1, 2, 3], [60, 61, 60, 61]), ([1, 0, 3, 2], [70, 70, 70, 70])):
        processor(ids, pair.ensemble.large(ids).logits[:, -1])
        ids = torch.cat([ids[order], torch.tensor(tokens)[:, None]], dim=1)
    mask = torch.cat([left(prompts)[1].repeat_interleave(2, dim=0), torch.ones(4, 2, dtype=torch.long)], dim=1)
    large = pair.ensemble.large(ids, attention_mask=mask).logits[:, -1]
    assert_close(processor(ids, large), anew(ids, large), atol=1e-4, rtol=0)


def test_answers_with_candidates_from_the_prompt_are_the_same(pair: Pair) -> None:
    prompt = [[0, 40, 50, 60, 40, 50, 60, 40, 50]]
    found = run(pair, pair.processor(left(prompt)[1]), prompt, prompt_lookup_num_tokens=3)
    assert new_tokens(found.sequences, prompt) == pair.ensemble.generate(prompt, 9, [END])


def test_a_processor_without_a_mask_serves_one_prompt_after_another(pair: Pair) -> None:
    processor = pair.processor()
    for prompt in ([0, 40, 50], [0, 91], [0, 91, 92]):
        found = run(pair, processor, [prompt])
        assert new_tokens(found.sequences, [prompt]) == pair.ensemble.generate([prompt], 9, [END])


def test_a_processor_with_a_mask_is_for_its_prompts(pair: Pair) -> None:
    processor = pair.processor(left(PROMPTS)[1])
    once = run(pair, processor)
    assert torch.equal(run(pair, processor).sequences, once.sequences)
    assert len(run(pair, processor, num_return_sequences=2, do_sample=True).sequences) == 6
    others = [prompts := [*PROMPTS[:2], [0, 120, 130, 141]], prompts[:2], [[9, *prompt] for prompt in prompts]]
    for other in others:
        with pytest.raises(InvalidInput, match=r"attention_mask: got \[3, 5\]; accepted: the mask of these prompts"):
            run(pair, processor, other)
    with pytest.raises(InvalidInput, match=r"the mask of these prompts, for \[3, 6\]"):
        run(pair, pair.processor(left(PROMPTS)[1]), others[-1])


def test_an_interrupted_step_leaves_nothing_wrong_behind(pair: Pair) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        if len(lengths) == 3:
            raise Interrupted

    whole = run(pair, Anew(pair.ensemble))
    processor = pair.processor(left(PROMPTS)[1])
    with lengths_read(pair) as lengths:
        hook = pair.ensemble.minus.register_forward_hook(interrupt)  # type: ignore[union-attr]
        with pytest.raises(Interrupted):
            run(pair, processor)
        hook.remove()
    ids = whole.sequences[:, : 5 + 2]
    mask = torch.cat([left(PROMPTS)[1], torch.ones(3, 2, dtype=torch.long)], dim=1)
    large = pair.ensemble.large(ids, attention_mask=mask, position_ids=mask.cumsum(-1).sub(1).clamp_min(0)).logits
    assert_close(processor(ids, large[:, -1]), whole.scores[2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("rule", [Rule(pin_special=True), Rule(mode="rank")], ids=["pinned", "ranked"])
def test_what_generate_rules_out_stays_out(rule: Rule, pair: Pair) -> None:
    pair = replace(pair, ensemble=replace(pair.ensemble, rule=rule))
    banned = list(range(3, 200))
    found = run(pair, pair.processor(left(PROMPTS)[1]), suppress_tokens=banned)
    assert all((scores[:, banned] == -math.inf).all() for scores in found.scores)
    ended = run(pair, pair.processor(left(PROMPTS)[1]), prefix_allowed_tokens_fn=lambda *_: [END])
    assert new_tokens(ended.sequences) == [[], [], []]


def test_an_offset_that_is_not_finite_is_no_answer(pair: Pair) -> None:
    lane = deepcopy(pair.ensemble.minus)
    assert lane is not None
    next(lane.parameters()).data.fill_(math.nan)
    broken = replace(pair, ensemble=replace(pair.ensemble, minus=lane))
    with pytest.raises(InvalidInput, match="scores: got 'NaN'; accepted: finite logits"):
        run(broken, broken.processor(left(PROMPTS)[1]))


@pytest.mark.parametrize(
    "mask",
    [[[1, 1, 0]], [[0, 1, 0]], [[1, 0, 1]], [[0, 0, 0]], [[0, 1, 2]], [[0.5, 1, 1]], [1, 1, 1], [[]]],
    ids=str,
)
def test_a_mask_that_is_none_is_refused(mask: list[Any], pair: Pair) -> None:
    with pytest.raises(InvalidInput, match=r"attention_mask: .* accepted: \[batch, length\], each row zeros and then"):
        pair.processor(torch.tensor(mask))


def test_padding_without_a_mask_is_refused(pair: Pair) -> None:
    with pytest.raises(InvalidInput, match="attention_mask: got None; accepted: the tokenizer's attention_mask, as a"):
        run(pair, pair.processor())
