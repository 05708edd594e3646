"""Who gets the adapter slots when more modules are asked for than there are slots.

vLLM lets a request wait while all slots are taken by running requests of other adapters, and admits later requests for
those adapters meanwhile: one that needs a further slot could wait for ever.
"""

from __future__ import annotations

import math
import time
from typing import Any

from vllm.v1.request import RequestStatus

PROBE_PREFIX = "lethe-probe-"
PATIENCE_S = 2.0
READY = (RequestStatus.WAITING, RequestStatus.PREEMPTED)


class Turns:
    """Mixin over vLLM's schedulers.

    A probe of a module that is being loaded waits for nobody: for the step that it takes, the requests of one running
    adapter sit out. A request that has waited for a slot for ``PATIENCE_S`` is served before any that came later.
    """

    # Of vLLM's scheduler; a request sits out while its next_decode_eligible_step lies ahead.
    lora_config: Any
    running: Any
    waiting: Any
    current_step: int

    _adapters: frozenset[int] = frozenset()  # running ones
    _probe_waits = False
    _first_come = math.inf

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        if self.lora_config is not None:
            self._take_turns(self.lora_config.max_loras)
        base: Any = super()
        return base.schedule(*args, **kwargs)

    def _take_turns(self, slots: int) -> None:
        self._adapters = frozenset(_adapter(request) for request in self.running) - {0}
        full = len(self._adapters) >= slots
        blocked = [request for request in self.waiting if full and self._needs_slot(request)]
        probes = [request for request in blocked if _is_probe(request)]
        first = {_adapter(request) for request in self.running if _is_probe(request)}
        if probes and self.current_step % 2:  # not in every step: a probe may lack memory, too
            first.add(_adapter(probes[0]))
        self._rest(self._adapters - first, len(self._adapters | first) - slots)
        self._probe_waits = bool(probes)
        since = time.time() - PATIENCE_S
        self._first_come = min((each.arrival_time for each in blocked if each.arrival_time < since), default=math.inf)

    def _needs_slot(self, request: Any) -> bool:
        adapter = _adapter(request)
        return bool(adapter) and adapter not in self._adapters and request.status in READY

    def _rest(self, adapters: frozenset[int], count: int) -> None:
        """Let the requests of ``count`` of the running ``adapters`` sit out the next step, in turns."""
        if count <= 0:
            return
        rested = {_adapter(request): request.next_decode_eligible_step for request in self.running}
        resting = sorted(adapters, key=lambda adapter: rested[adapter])[:count]
        for request in self.running:
            if _adapter(request) in resting:
                request.next_decode_eligible_step = self.current_step + 2  # schedule() counts on before it compares

    def _handle_blocked_waiting_request(self, request: Any) -> bool:
        """vLLM's question whether a waiting request may be admitted in this step."""
        base: Any = super()
        ready: bool = base._handle_blocked_waiting_request(request)
        adapter = _adapter(request)
        if not ready or not adapter or _is_probe(request):
            return ready
        if self._probe_waits and adapter not in self._adapters:
            return False
        return bool(request.arrival_time <= self._first_come)


def _adapter(request: Any) -> int:
    """vLLM's number of the request's adapter, 0 for none."""
    return 0 if request.lora_request is None else int(request.lora_request.lora_int_id)


def _is_probe(request: Any) -> bool:
    return bool(request.request_id.startswith(PROBE_PREFIX))
