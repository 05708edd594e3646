"""Times inside an engine's workers, taken by hooks on the model; only in engines started to be timed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from lethe_server.bench.profile import RANGE, Profile, leaves
from lethe_server.engine.worker import RuleKeeper

MODEL, LARGE, PAIR = "model", "large", "pair"
PROFILED_STEPS = 8


@dataclass
class Step:
    """One engine step. began: seconds. decode: every row is past its prompt. parts: seconds spent by part."""

    began: float
    rows: int
    decode: bool
    parts: dict[str, float] = field(default_factory=dict)


class StepTimer:
    """Mixed into vLLM's worker class. Computation on the CPU is done when a call returns, so a clock is enough."""

    model_runner: Any

    def bench_watch(self) -> None:
        """From now on take the time of the model's ``forward`` and ``compute_logits``, and of a pair's inside them."""
        self._bench_steps: list[Step] = []
        self._bench_prompt = 0
        self._bench_profile: _Profiling | None = None
        self._bench_between = torch.empty(0)
        model = self.model_runner.get_model()
        model.register_forward_pre_hook(self._bench_step, with_kwargs=True)
        for part, owner in ((MODEL, model), (LARGE, getattr(model, LARGE, None)), (PAIR, getattr(model, PAIR, None))):
            if owner is not None:
                self._bench_hook(owner, part)

    def bench_begin(self, prompt: int, profiled_rows: int = 0, between: int = 0) -> None:
        """Forget what was seen; the next requests have prompts of ``prompt`` tokens.

        profiled_rows: profile the first decode steps of so many rows; 0 for no profile. between: bytes that are read
        before each step, as beside this model another one's weights would be.
        """
        self._bench_steps.clear()
        self._bench_prompt = prompt
        self._bench_profile = _Profiling(profiled_rows) if profiled_rows else None
        self._bench_between = torch.ones(between // 4)

    def bench_steps(self) -> list[tuple[float, int, bool, dict[str, float]]]:
        return [(step.began, step.rows, step.decode, step.parts) for step in self._bench_steps]

    def bench_profile(self) -> Profile | None:
        return self._bench_profile.result if self._bench_profile is not None else None

    def _bench_step(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        positions = kwargs["positions"] if "positions" in kwargs else args[1]
        decode = int(positions.min()) >= self._bench_prompt
        if self._bench_profile is not None:
            self._bench_profile.step(positions.shape[-1] if decode else 0)
        self._bench_between.sum()
        self._bench_steps.append(Step(time.perf_counter(), positions.shape[-1], decode))

    def _bench_hook(self, owner: Any, part: str) -> None:
        began: list[tuple[float, record_function]] = []

        def enter(name: str) -> None:
            span = record_function(RANGE + name)
            span.__enter__()  # type: ignore[no-untyped-call]
            began.append((time.perf_counter(), span))

        def leave() -> None:
            start, span = began.pop()
            parts = self._bench_steps[-1].parts
            parts[part] = parts.get(part, 0.0) + time.perf_counter() - start
            span.__exit__(None, None, None)

        head = owner.compute_logits

        def compute_logits(*args: Any, **kwargs: Any) -> Any:
            enter(f"{part} head")
            try:
                return head(*args, **kwargs)
            finally:
                leave()

        owner.register_forward_pre_hook(lambda module, args: enter(part))
        owner.register_forward_hook(lambda module, args, output: leave())
        owner.compute_logits = compute_logits


class TimedRuleKeeper(RuleKeeper, StepTimer):
    """The same in an engine that holds a pair."""


class _Profiling:
    """torch's profiler from the first step of ``rows`` rows over ``PROFILED_STEPS`` whole steps."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.result: Profile | None = None
        self._profiler: Any = None
        self._began = 0.0
        self._seen = 0

    def step(self, rows: int) -> None:
        """A step of ``rows`` decoding rows begins."""
        if self._profiler is None and self.result is None and rows == self.rows:
            self._profiler = profile(activities=[ProfilerActivity.CPU])
            self._profiler.__enter__()
            self._began = time.perf_counter()
        elif self._profiler is not None:
            self._seen += 1
            if self._seen == PROFILED_STEPS:
                wall = time.perf_counter() - self._began
                self._profiler.__exit__(None, None, None)
                self.result = (wall / self._seen, self._seen, leaves(self._profiler.events()))
                self._profiler = None
