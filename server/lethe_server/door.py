"""The one place every generation passes on its way to the engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from lethe_server.errors import EngineDied, GenerationFailed, UnroutedRequest
from lethe_server.metrics import Metrics
from lethe_server.residents import Resident
from lethe_server.scope import RequestScope, admitted
from lethe_server.shadow import ShadowRunner

if TYPE_CHECKING:
    from lethe_server.engine.loops import LoopGuard

LOOPED = "repetition"  # vLLM's reason of an answer that ran in a loop

# What vLLM's serving classes read of an engine client. Anything else, above all another way to have the large model
# compute something (encode, add_lora, collective_rpc), does not exist behind the door.
READABLE = frozenset(
    {
        "vllm_config",
        "model_config",
        "renderer",
        "input_processor",
        "is_running",
        "is_stopped",
        "errored",
        "check_admission",
        "check_health",
        "is_tracing_enabled",
    }
)


class Door:
    """Stands in for vLLM's engine client before the serving classes.

    shadows: told of answers drawn for one. loops: ends answers under modules that run in a loop.
    """

    def __init__(
        self,
        client: Any,
        shadows: ShadowRunner | None = None,
        metrics: Metrics | None = None,
        loops: LoopGuard | None = None,
    ) -> None:
        self._client = client
        self._shadows = shadows
        self._metrics = metrics
        self._loops = loops

    def __getattr__(self, name: str) -> Any:
        if name not in READABLE:
            raise AttributeError(f"{name} does not pass the door")
        return getattr(self._client, name)

    @property
    def dead_error(self) -> EngineDied:
        """What vLLM's serving classes raise for a request that finds the engine dead."""
        return EngineDied()

    def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, *, lora_request: Any = None, **options: Any
    ) -> AsyncGenerator[Any, None]:
        """vLLM's ``generate`` for the resident that the current request was routed to.

        Raises UnroutedRequest unless ``lora_request`` is that resident's; while iterating, GenerationFailed when the
        engine ends the request with an error, EngineDied when it ends itself.
        """
        scope, resident = admitted(lora_request)
        return self._answer(scope, resident, prompt, sampling_params, request_id, options)

    async def _answer(
        self,
        scope: RequestScope,
        resident: Resident,
        prompt: Any,
        sampling_params: Any,
        request_id: str,
        options: dict[str, Any],
    ) -> AsyncGenerator[Any, None]:
        if scope.closed:  # started after the answer had ended; the module may be gone
            raise UnroutedRequest("a generation may not outlive its request")
        # Under its own name, not its public one: vLLM keeps prefix caches apart by the adapter's name.
        request = None if resident.loaded is None else resident.loaded.request(resident.loaded.name)
        if self._loops is not None and resident.modules:
            sampling_params = self._loops.watch(sampling_params)
        heard = None if self._shadows is None else self._shadows.listen(scope, sampling_params)
        computing = nullcontext() if self._metrics is None else self._metrics.computing()
        with resident.lease(), scope.generation(), self._alive(), computing:
            outputs = self._client.generate(prompt, sampling_params, request_id, lora_request=request, **options)
            last: Any = None
            async with aclosing(outputs):
                async for output in outputs:
                    reasons = {choice.finish_reason for choice in output.outputs}
                    if "error" in reasons:
                        raise GenerationFailed("the engine ended the request with an error; nothing of it is answered")
                    if LOOPED in reasons:
                        scope.loops()
                    if heard is not None:
                        heard.hear(output)
                    scope.output_tokens += sum(len(choice.token_ids) for choice in output.outputs)
                    last = output
                    yield output
            self._measure(scope, resident, last)
            if self._shadows is not None and heard is not None:
                self._shadows.compare(scope, heard)

    @contextmanager
    def _alive(self) -> Iterator[None]:
        """What fails within the block because the engine died raises EngineDied."""
        try:
            yield
        except Exception as err:
            if self._client.errored:
                raise EngineDied from err
            raise

    def _measure(self, scope: RequestScope, resident: Resident, last: Any) -> None:
        """last: the final RequestOutput of a generation; its times are missing where vLLM keeps no statistics.

        The first generation to end tells a request's time to the first token; beam search has one for each token.
        """
        if last is None:
            return
        scope.prompt_tokens += len(last.prompt_token_ids or ())
        times = last.metrics
        if self._metrics is None or times is None or not times.num_generation_tokens:
            return
        if not scope.measured:
            self._metrics.first_token(resident.label, times.arrival_time + times.first_token_latency - scope.arrived)
            scope.measured = True
        if times.num_generation_tokens > 1:
            span_s = times.last_token_ts - times.first_token_ts
            self._metrics.output_token(resident.label, span_s / (times.num_generation_tokens - 1))
