"""Another module looked at beside the one that answers: how likely it finds answers that clients have been given.

Nothing of it reaches a client or a log but numbers. The answer is scored once more under the module that gave it, so
that both scores are of the same kind whatever the request's sampling was.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from lethe_offsets.errors import LetheError
from lethe_server.errors import GenerationFailed
from lethe_server.residents import Resident, Residents
from lethe_server.scope import RequestScope
from lethe_server.shadow_metrics import Labels, Result, ShadowMetrics, short

MAX_COMPARISONS = 2  # at a time
log = logging.getLogger(__name__)


class HeardAnswer:
    """The first choice of an answer as it passes the door. deltas: each output holds only what is new."""

    def __init__(self, deltas: bool) -> None:
        self.prompt: list[int] = []
        self.tokens: list[int] = []
        self.complete = False
        self._deltas = deltas

    def hear(self, output: Any) -> None:
        """output: vLLM's RequestOutput."""
        self.prompt = list(output.prompt_token_ids or ())
        for choice in output.outputs:
            if choice.index == 0:
                self.tokens = [*(self.tokens if self._deltas else ()), *choice.token_ids]
                self.complete = choice.finish_reason in ("stop", "length")


@dataclass(frozen=True)
class Comparison:
    """agreement: share of the answer's tokens that are the shadow's most likely ones. divergence: mean over the tokens
    of the log-probability under what answered less that under the shadow, nats.
    """

    agreement: float
    divergence: float


class ShadowRunner:
    """Compares answers with shadows in the background, at most ``limit`` at a time; further ones are dropped."""

    def __init__(self, client: Any, residents: Residents, metrics: ShadowMetrics, limit: int = MAX_COMPARISONS) -> None:
        self._client = client
        self._residents = residents
        self._metrics = metrics
        self._limit = limit
        self._running: set[asyncio.Task[None]] = set()
        self._ids = itertools.count(1)

    def listen(self, scope: RequestScope, sampling_params: Any) -> HeardAnswer | None:
        """What is to hear the answer of a generation that begins, if its request was drawn for a comparison."""
        if scope.shadow is None:
            return None
        return HeardAnswer(sampling_params.output_kind.name == "DELTA")

    def compare(self, scope: RequestScope, answer: HeardAnswer) -> None:
        """Compare an answer whose generation has ended; of a request with several generations the first to end.

        What answered is kept in the engine until the comparison has ended, as is the shadow.
        """
        shadow, main = scope.shadow, scope.resident
        room = self._client.model_config.max_model_len - 1 - len(answer.prompt)  # vLLM wants a place for one more token
        tokens = answer.tokens[: max(room, 0)]
        if shadow is None or main is None or not (answer.complete and answer.prompt and tokens):
            return
        scope.shadow = None
        labels = Labels(scope.model or "", short(main.modules), short(shadow.modules))
        if len(self._running) >= self._limit or self._residents.is_paused:
            self._metrics.count(labels, Result.DROPPED)
            return
        with ExitStack() as held:
            held.enter_context(main.lease())
            try:
                other = self._residents.get(shadow.modules)
            except LetheError:  # it is being deleted
                self._metrics.count(labels, Result.FAILED)
                return
            held.enter_context(other.lease())
            task = asyncio.create_task(self._run(labels, main, other, answer.prompt, tokens))
            release = held.pop_all().close
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(lambda _: release())  # also of a task that is cancelled before it begins

    async def close(self) -> None:
        """Give up what is running."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(
        self, labels: Labels, main: Resident, shadow: Resident, prompt: Sequence[int], answer: Sequence[int]
    ) -> None:
        try:
            await self._residents.bring_in(shadow)
            with self._metrics.computing():
                compared = await self._compare(main, shadow, prompt, answer)
        except Exception as err:
            reason = err if isinstance(err, LetheError) else type(err).__name__  # others' texts may hold tokens
            log.warning("shadow %s of %s could not be compared: %s", labels.shadow, labels.model, reason)
            self._metrics.count(labels, Result.FAILED)
        else:
            self._metrics.observe(labels, compared.agreement, compared.divergence)

    async def _compare(
        self, main: Resident, shadow: Resident, prompt: Sequence[int], answer: Sequence[int]
    ) -> Comparison:
        """Raises GenerationFailed when the engine can't score it: the offset is not finite."""
        ids = [*prompt, *answer]
        ours = await self._scores(main, ids, len(prompt))
        theirs = await self._scores(shadow, ids, len(prompt))
        pairs = list(zip(ours, theirs, strict=True))
        return Comparison(
            agreement=sum(their.rank == 1 for _, their in pairs) / len(pairs),
            divergence=sum(our.logprob - their.logprob for our, their in pairs) / len(pairs),
        )

    async def _scores(self, resident: Resident, ids: Sequence[int], start: int) -> list[Any]:
        """vLLM's Logprob of each of ``ids[start:]``, given those before it."""
        from lethe_server.engine.scoring import score_tokens

        loaded = resident.loaded
        request = None if loaded is None else loaded.request(loaded.name)
        scores = await score_tokens(self._client, ids, start, request, f"lethe-shadow-{next(self._ids)}")
        if scores is None:
            raise GenerationFailed("the engine ended the comparison with an error")
        return scores
