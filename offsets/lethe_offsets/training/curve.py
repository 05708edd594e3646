"""The scores of a run as a picture."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence

from lethe_offsets.training.scores import Score


def draw_curve(scores: Sequence[Score], kept_step: int) -> bytes | None:
    """PNG of the forget and retain scores over the steps; None where matplotlib isn't installed.

    It holds numbers and no text of the data. Equal scores give equal bytes.
    """
    if importlib.util.find_spec("matplotlib") is None:
        return None
    from matplotlib.figure import Figure  # a second to import

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    steps = [score.step for score in scores]
    axes.plot(steps, [score.retain for score in scores], marker=".", label="retain")
    axes.plot(steps, [score.forget for score in scores], marker=".", label="forget")
    axes.axvline(kept_step, color="0.7", linestyle=":", label="kept")
    axes.set(xlabel="step", ylabel="mean answer probability", ylim=(0.0, 1.0))
    axes.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    return picture.getvalue()
