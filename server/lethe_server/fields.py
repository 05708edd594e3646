"""Which fields of an inference request are honoured; every other one is refused, not ignored."""

from __future__ import annotations

from collections.abc import Mapping, Set
from difflib import get_close_matches
from typing import Any

from lethe_server.errors import FieldRefused

_RENDER_ONLY = "nothing: it belongs to vLLM's render endpoints, which are not served"
_TRANSFER = "nothing: this server takes part in no KV-cache transfer"
_TEXT_ONLY = "nothing: only text is served"

# Known to vLLM's request models and refused here: they reach past the offset, outlive the request, or do nothing.
REFUSED = {
    "vllm_xargs": "nothing: arguments of engine extensions are the operator's",
    "kv_transfer_params": _TRANSFER,
    "ec_transfer_params": _TRANSFER,
    "prompt_embeds": "nothing: the small models can't read the large model's embeddings; send text or token ids",
    "media_io_kwargs": _TEXT_ONLY,
    "mm_processor_kwargs": _TEXT_ONLY,
    "mm_payload": _RENDER_ONLY,
    "return_mm_kwargs": _RENDER_ONLY,
    "return_token_offsets": _RENDER_ONLY,
    "routed_experts_prompt_start": "nothing: the large model's routing is not shown",
    "watermarking": "nothing, or false to opt out; whether answers are watermarked is the operator's choice",
    "background": "false: an answer ends with its request",
    "store": "false: answers are not stored",
    "previous_response_id": "nothing: answers are not stored; send the whole conversation as input",
    "priority": "0: all requests are equal",
    "service_tier": "'auto' or 'default': there is one tier",
}
ASKS_FOR_NOTHING = {"service_tier": ("auto", "default")}


def check_fields(body: Mapping[str, Any], known: Set[str]) -> None:
    """Raises FieldRefused for the first field that is not in ``known`` or not honoured."""
    for field, value in body.items():
        if field not in known:
            near = get_close_matches(field, known, n=1)
            hint = f"no such field; did you mean {near[0]!r}?" if near else "no such field"
            raise FieldRefused(field, _short(value), hint)
        if field in REFUSED and value and value not in ASKS_FOR_NOTHING.get(field, ()):
            raise FieldRefused(field, _short(value), REFUSED[field])


def _short(value: Any) -> Any:
    """The value, or its beginning: an error must not echo a whole body."""
    text = repr(value)
    return value if len(text) <= 80 else f"{text[:80]}..."
