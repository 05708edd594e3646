"""The axes beyond TOFU, after "Rethinking Machine Unlearning for Large Language Models" (arXiv 2402.08787)."""

from __future__ import annotations

from lethe_offsets.evaluation.axes.cost import Cost
from lethe_offsets.evaluation.axes.extraction import Extraction
from lethe_offsets.evaluation.axes.fluency import Entropy, Fluency
from lethe_offsets.evaluation.axes.guidance import Guidance
from lethe_offsets.evaluation.axes.leak import Leak
from lethe_offsets.evaluation.axes.membership import Membership, MembershipReference, MembershipWhole
from lethe_offsets.evaluation.axes.mixed import Mixed
from lethe_offsets.evaluation.axes.neighbours import Neighbours
from lethe_offsets.evaluation.axes.paraphrased import Paraphrased
from lethe_offsets.evaluation.axes.plain import Plain
from lethe_offsets.evaluation.axes.probes import FrameProbe
from lethe_offsets.evaluation.axes.quantised import Quantised
from lethe_offsets.evaluation.axes.relearning import Relearning
from lethe_offsets.evaluation.axes.reteaching import Reteaching
from lethe_offsets.evaluation.metrics import Metric

AXES: tuple[Metric, ...] = (
    Plain(),
    Paraphrased(),
    FrameProbe("indirect"),
    FrameProbe("jailbreak"),
    FrameProbe("languages"),
    Mixed(),
    Reteaching(),
    Extraction(),
    Membership(),
    MembershipWhole(),
    MembershipReference(),
    Leak(),
    Neighbours(),
    Fluency(),
    Entropy(),
    Quantised(),
    Relearning(),
    Guidance(),
    Cost(),
)
