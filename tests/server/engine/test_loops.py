"""Which requests are guarded against loops; that the engine ends them is seen at a server."""

from __future__ import annotations

from vllm import SamplingParams
from vllm.sampling_params import RepetitionDetectionParams

from lethe_server.engine.loops import LoopGuard


def test_a_copy_is_guarded() -> None:
    params = SamplingParams(max_tokens=5)
    watched = LoopGuard(longest=8, count=3).watch(params)
    assert watched.repetition_detection == RepetitionDetectionParams(max_pattern_size=8, min_count=3)
    assert watched.max_tokens == 5
    assert params.repetition_detection is None


def test_a_guard_of_the_requests_own_stays() -> None:
    params = SamplingParams(repetition_detection=RepetitionDetectionParams(max_pattern_size=2, min_count=9))
    assert LoopGuard(longest=8, count=3).watch(params) is params
