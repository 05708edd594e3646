"""What a module costs: the server's pace with it and without it, in turns."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median

from lethe_offsets.evaluation.axes.streaming import pace, run_streams
from lethe_offsets.evaluation.endpoint import Served
from lethe_offsets.evaluation.metrics import NotApplicable, Result, World

TURNS = 5  # of each model, after one that doesn't count
STREAMS = 8  # at the same time
TOKENS = 64  # of each answer


@dataclass(frozen=True, slots=True)
class Cost:
    """Eight streams at once, first of the target, then of the module, and so on.

    Summary: medians over turns of ``tokens_per_s`` and ``tpot_s`` (see ``streaming.Pace``) with the module, the same
    of the target with ``target_`` before it, and of the ratios module to target within a turn, ``speed`` and ``tpot``.
    Other load on the server meets both alike; it makes the ratios noisy, not wrong.
    """

    name: str = "cost"
    group: str = "axes"
    needs: frozenset[str] = frozenset({"endpoint", "target"})

    def run(self, world: World) -> Result:
        judged, target = world.judged, world.models["target"]
        if not isinstance(judged, Served) or not isinstance(target, Served) or judged.name != "module":
            raise NotApplicable(f"{judged.name} is not served with a module beside its target")
        prompts = world.prompts((world.sets.forget * STREAMS)[:STREAMS])
        paces = []
        for turn in range(TURNS + 1):
            paces.append({one.name: pace(run_streams(one.address, prompts, TOKENS)) for one in (target, judged)})
            world.report("turns", turn, TURNS)
        rows = [(each["target"], each[judged.name]) for each in paces[1:]]
        summary = {
            "tokens_per_s": median(own.tokens_per_s for _, own in rows),
            "tpot_s": median(own.tpot_s for _, own in rows),
            "target_tokens_per_s": median(base.tokens_per_s for base, _ in rows),
            "target_tpot_s": median(base.tpot_s for base, _ in rows),
            "speed": median(own.tokens_per_s / base.tokens_per_s for base, own in rows),
            "tpot": median(own.tpot_s / base.tpot_s for base, own in rows),
        }
        return Result(summary, [{"target": asdict(base), "module": asdict(own)} for base, own in rows])
