"""The module's name and digest in vLLM's traces."""

from __future__ import annotations

from functools import cache
from typing import Any

ATTRIBUTE = "lethe.module"


@cache
def name_modules_in_traces() -> None:
    """Put ``lethe.module`` among the attributes of vLLM's span of a request.

    vLLM makes the span within ``OutputProcessor.do_tracing``, by an ``instrument_manual`` that takes the attributes
    whole; no hook is between. The adapter's name is the module's reference: the door asks under it.
    """
    from vllm.v1.engine import output_processor

    internals: Any = output_processor
    trace, make_span = internals.OutputProcessor.do_tracing, internals.instrument_manual
    modules: list[str] = []  # of the request being traced

    def do_tracing(self: Any, output: Any, state: Any, stats: Any) -> None:
        modules[:] = [state.lora_name] if state.lora_name else []
        trace(self, output, state, stats)

    def instrument_manual(*, attributes: dict[str, Any], **span: Any) -> Any:
        named = {**attributes, ATTRIBUTE: modules[0]} if modules else attributes
        return make_span(attributes=named, **span)

    internals.OutputProcessor.do_tracing = do_tracing
    internals.instrument_manual = instrument_manual
