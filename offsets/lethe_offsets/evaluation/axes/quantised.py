"""The pair in few bits: does rounding its weights bring the forgotten back?

Source: "Catastrophic Failure of LLM Unlearning via Quantization" (arXiv 2410.16454), where 4 bits undid fine-tuned
unlearning, whose changes of the weights are smaller than a step of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from peft import PeftModel
from pydantic import JsonValue

from lethe_offsets.evaluation.axes.asking import spread
from lethe_offsets.evaluation.axes.pair import own_pair
from lethe_offsets.evaluation.axes.rounding import round_linears
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.metrics import Result, World

BITS = (8, 4)
ITEMS = 100  # of each set


@dataclass(frozen=True, slots=True)
class Quantised:
    """Probabilities of answers, ``p ** (1 / tokens)``, with the small model and its adapters rounded row by row.

    Summary: ``forget``, ``forget_8``, ``forget_4`` for the weights as they are and in 8 and 4 bits, and the same with
    ``retain`` where there is such a set.
    """

    name: str = "quantised"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"pair"})

    def run(self, world: World) -> Result:
        sets = {"forget": world.sets.forget, "retain": world.sets.retain}
        chosen = {name: spread(items, ITEMS) for name, items in sets.items() if items}
        found: dict[str, list[float]] = {}
        for bits in (None, *BITS):
            judged = in_bits(own_pair(world), bits)
            for name, items in chosen.items():
                scored = judged.score(world.pairs(items), report=world.report)
                found[name if bits is None else f"{name}_{bits}"] = [one.probability for one in scored]
        rows: list[dict[str, JsonValue]] = [
            {"set": name, "question": item.question}
            | {key: values[place] for key, values in found.items() if key.startswith(name)}
            for name, items in chosen.items()
            for place, item in enumerate(items)
        ]
        return Result({name: fmean(values) for name, values in found.items()}, rows)


def in_bits(judged: Local, bits: int | None) -> Local:
    """The lanes rounded in place, but for the head; None leaves them as they are."""
    for lane in (judged.ensemble.plus, judged.ensemble.minus):
        if bits is not None and lane is not None:
            base = lane.get_base_model() if isinstance(lane, PeftModel) else lane
            round_linears(lane, bits, keep=base.get_output_embeddings())  # type: ignore[operator]
    return judged
