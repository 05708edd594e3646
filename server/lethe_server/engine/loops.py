"""A guard against answers that run in a loop, as a strong offset can make long ones."""

from __future__ import annotations

from dataclasses import dataclass

from vllm import SamplingParams
from vllm.sampling_params import RepetitionDetectionParams


@dataclass(frozen=True, slots=True)
class LoopGuard:
    """Lets vLLM end an answer whose last tokens are one pattern of at most ``longest`` tokens, ``count`` times in a
    row.
    """

    longest: int
    count: int

    def watch(self, params: SamplingParams) -> SamplingParams:
        """``params`` with the guard, unless the request asks for one of its own."""
        if params.repetition_detection is not None:
            return params
        watched = params.clone()
        watched.repetition_detection = RepetitionDetectionParams(max_pattern_size=self.longest, min_count=self.count)
        return watched
