"""The metrics of TOFU (arXiv 2401.06121), each after those that it needs.

Questions and answers are rendered as in training (``training/render.py``), so prompts are a module's own, not those of
the benchmark's Llama 2 and Phi; all items of a set count, where the authors' code takes the first 300.
"""

from lethe_offsets.evaluation.metrics import Metric
from lethe_offsets.evaluation.tofu.forget_quality import ForgetQuality
from lethe_offsets.evaluation.tofu.probability import Probability
from lethe_offsets.evaluation.tofu.rouge import Rouge
from lethe_offsets.evaluation.tofu.truth_ratio import TruthRatio
from lethe_offsets.evaluation.tofu.utility import ModelUtility

TOFU: tuple[Metric, ...] = (Probability(), Rouge(), TruthRatio(), ModelUtility(), ForgetQuality())
