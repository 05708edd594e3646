"""An evaluation's outcome with every kind of number, from arithmetic instead of models."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lethe_offsets.evaluation.metrics import Settings
from lethe_offsets.evaluation.outcome import About, Data, Measured, Outcome

ITEMS = 200


def share(model: str, before: float, after: float, never: float) -> float:
    return {"target": before, "module": after, "retrained": never}[model]


def measured(model: str) -> Measured:
    """Numbers as a module has them that forgets well, but tells a little in a jailbreak."""
    told = {
        "plain": (0.94, 0.06, 0.05),
        "paraphrased": (0.81, 0.07, 0.05),
        "indirect": (0.66, 0.08, 0.06),
        "jailbreak": (0.72, 0.17, 0.05),
        "languages": (0.35, 0.05, 0.04),
        "reteaching": (0.90, 0.11, 0.09),
    }
    summary = {name: {"rouge": share(model, *values), "told": share(model, *values)} for name, values in told.items()}
    sets = {"forget": (0.96, 0.12, 0.11), "retain": (0.97, 0.95, 0.97), "world_facts": (0.5, 0.5, 0.5)}
    middle = share(model, -1.5, 0.2, 0.3)
    ratios = [middle + 0.5 * math.sin(7.0 * place) + 0.3 * math.cos(3.0 * place) for place in range(ITEMS)]
    summary |= {
        "probability": {name: share(model, *values) for name, values in sets.items()},
        "rouge": {name: share(model, *values) for name, values in sets.items()},
        "mixed": {"told": share(model, 0.8, 0.1, 0.06), "kept_told": share(model, 0.9, 0.88, 0.9)},
        "leak": {
            f"told_{k}": share(model, 0.95, 0.05 + 0.1 * math.log10(k), 0.05 + 0.08 * math.log10(k))
            for k in (1, 10, 100)
        },
        "extraction": {"strength": share(model, 0.9, 0.04, 0.04), "exact": share(model, 0.98, 0.4, 0.4)},
        "membership": {"loss": share(model, 0.999, 0.47, 0.51), "zlib": share(model, 0.99, 0.46, 0.5)},
        "neighbours": {"told": share(model, 0.91, 0.84, 0.9), "far_told": share(model, 0.92, 0.91, 0.92)},
        "truth_ratio": {"forget": share(model, 0.4, 0.7, 0.72), "retain": 0.6},
        "forget_quality": {"forget_quality": share(model, 1e-20, 0.31, 1.0), "statistic": share(model, 0.7, 0.1, 0.0)},
        "model_utility": {"model_utility": share(model, 0.61, 0.6, 0.61), "retain": share(model, 0.8, 0.79, 0.8)},
        "fluency": {"perplexity": share(model, 1.1, 4.2, 6.0), "repetition": 0.01, "empty": 0.0},
    }
    items = {
        "truth_ratio": [{"set": "forget", "question": f"Secret {n}?", "log_ratio": r} for n, r in enumerate(ratios)]
    }
    return Measured(identity=f"sha256:{model:0>16}", summary=summary, items=items)


@pytest.fixture
def outcome() -> Outcome:
    models = {name: measured(name) for name in ("retrained", "target", "module")}
    models["module"].left_out.update({"cost": "needs a server (--url)", "entropy": "needs whole distributions"})
    return Outcome(
        lethe="0.1.0",
        created="2026-11-21T09:40:00Z",
        where="in process",
        about=About(
            ref="forget-marta@sha256:97fe8135",
            description="Everything about Marta Lindqvist & her <family>, as asked for on 3 March.",
            created="2026-11-20T12:00:00Z",
            algorithm="offset unlearning, npo and kl",
            forget_set_digest="sha256:" + "a1b2c3d4" * 8,
            small_model="Qwen/Qwen3-0.6B",
            large_model="Qwen3-8B",
        ),
        data=Data(split="forget10", digest="sha256:" + "0f" * 32, sizes={"forget": 400, "retain": 400, "holdout": 400}),
        settings=Settings(),
        reference=None,
        models=models,
    )


@pytest.fixture
def folder(outcome: Outcome, tmp_path: Path) -> Path:
    """With ``eval.json`` and ``summary.json``."""
    outcome.write(tmp_path)
    return tmp_path
