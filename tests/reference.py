"""What the engine must equal: three Hugging Face models, or two more for each further module, separate caches, one sum.

Independent of the engine: no vLLM, no lanes, no slots. Only the rule's arithmetic is shared, and that has its own
tests with the arithmetic by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

from lethe_offsets.pair import Rule, RuleRows, apply_rules, apply_sum


@dataclass(frozen=True)
class Lanes:
    """A module as the reference sees it: PEFT directories and the rule."""

    plus: Path | None
    minus: Path | None
    rule: Rule


Answering = Lanes | Sequence[Lanes] | None
"""One module, several whose offsets are added, or the large model alone."""


class Caches:
    """Feeds tokens to the models, each with its own cache; gives the offset distribution's logits.

    models: the large one, then plus and minus of each rule.
    """

    def __init__(
        self,
        models: Sequence[Any],
        rules: Sequence[Rule],
        special_ids: Sequence[int],
        cache: Callable[[], DynamicCache] = DynamicCache,
    ) -> None:
        self.models = models
        self.caches = [cache() for _ in models]
        self.rules = rules
        self.special_ids = torch.tensor(special_ids, dtype=torch.long)

    @torch.inference_mode()
    def feed(self, token_ids: Sequence[int]) -> Tensor:
        """Logits [len(token_ids), vocab] after each of the given tokens."""
        ids = torch.tensor([list(token_ids)])
        logits = [
            model(input_ids=ids.clamp_max(_last_id(model)), past_key_values=cache, use_cache=True).logits[0].float()
            for model, cache in zip(self.models, self.caches, strict=True)
        ]
        large, *lanes = logits
        rules = [RuleRows.stack([rule]).take(torch.zeros(ids.shape[1], dtype=torch.long)) for rule in self.rules]
        if len(rules) < 2:
            return apply_rules(large, *lanes, rules[0], self.special_ids) if rules else large
        return apply_sum(large, list(zip(lanes[::2], lanes[1::2], strict=True)), rules, self.special_ids)


class Reference:
    """The ensemble in plain transformers, float32. plus: the plus lane's own model, where it isn't the small one.

    cache: makes the caches of each answer.
    """

    cache: Callable[[], DynamicCache] = DynamicCache

    def __init__(self, large: Path, small: Path, special_ids: Sequence[int], plus: Path | None = None) -> None:
        self.large = _load(large)
        self.plus, self.small = plus or small, small
        self.special_ids = special_ids
        self._loaded: dict[tuple[Path, Path | None], Any] = {}

    def caches(self, lanes: Answering) -> Caches:
        modules = [lanes] if isinstance(lanes, Lanes) else list(lanes or ())
        models = [self.large]
        for each in modules:
            models += [self._lane(self.plus, each.plus), self._lane(self.small, each.minus)]
        return Caches(models, [each.rule for each in modules], self.special_ids, self.cache)

    def _lane(self, base: Path, adapter: Path | None) -> Any:
        if (base, adapter) not in self._loaded:
            model = _load(base)
            adapted = model if adapter is None else PeftModel.from_pretrained(model, str(adapter)).eval()
            self._loaded[base, adapter] = adapted
        return self._loaded[base, adapter]

    def greedy(
        self,
        prompt: Sequence[int],
        lanes: Answering,
        num_tokens: int,
        adjust: Callable[[Tensor, list[int]], Tensor] = lambda logits, output: logits,
    ) -> list[int]:
        """Tokens by argmax, one at a time; ``adjust`` sees the logits [vocab] and the output so far."""
        caches = self.caches(lanes)
        output: list[int] = []
        logits = caches.feed(prompt)[-1]
        for _ in range(num_tokens):
            output.append(int(adjust(logits, output).argmax()))
            logits = caches.feed(output[-1:])[-1]
        return output

    def log_probs(self, token_ids: Sequence[int], lanes: Answering) -> Tensor:
        """Log-probabilities [len - 1, vocab] of each token's successor."""
        return self.caches(lanes).feed(token_ids)[:-1].log_softmax(dim=-1)

    def scores(self, token_ids: Sequence[int], lanes: Answering) -> list[float]:
        """Log-probability of every token but the first, given those before it."""
        table = self.log_probs(token_ids, lanes)
        targets = torch.tensor(list(token_ids[1:]))[:, None]
        scores: list[float] = table.gather(1, targets)[:, 0].tolist()
        return scores

    def beams(self, prompt: Sequence[int], lanes: Answering, width: int, num_tokens: int) -> list[list[int]]:
        """The ``width`` best continuations of a beam search without early end, best first."""
        beams: list[tuple[float, list[int]]] = [(0.0, [])]
        for _ in range(num_tokens):
            grown = []
            for score, output in beams:
                table = self.caches(lanes).feed([*prompt, *output])[-1].log_softmax(dim=-1)
                values, ids = table.topk(2 * width)
                grown += [(score + v, [*output, i]) for v, i in zip(values.tolist(), ids.tolist(), strict=True)]
            beams = sorted(grown, key=lambda beam: -beam[0])[:width]
        return [output for _, output in beams]


def _last_id(model: Any) -> int:
    return int(model.config.vocab_size) - 1


def _load(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
