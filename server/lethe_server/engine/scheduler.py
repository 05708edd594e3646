"""A scheduler that fails closed: a request with an unsound row ends with an error, its tokens never leave."""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import RequestStatus

from lethe_server.engine.turns import Turns


def unsound_requests(output: ModelRunnerOutput) -> set[str]:
    """Requests with NaN among their logits: the module or its rule is unknown, or the offset is not finite.

    vLLM counts NaN per request under VLLM_COMPUTE_NANS_IN_LOGITS; prompt log-probabilities are looked at here.
    """
    unsound = {request for request, count in (output.num_nans_in_logits or {}).items() if count}
    for request, tensors in output.prompt_logprobs_dict.items():
        if tensors is not None and bool(tensors.logprobs.isnan().any()):
            unsound.add(request)
    return unsound


class FailClosed:
    """Mixin over vLLM's schedulers.

    What a failed request left in the KV cache is wiped before a block is used again: attention weighs the values behind
    a prompt's end with 0, and 0 times NaN is NaN. The V2 model runner has no way to wipe single blocks.
    """

    _to_wipe: frozenset[int] = frozenset()

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        base: Any = super()
        output = base.schedule(*args, **kwargs)
        if self._to_wipe:
            output.new_block_ids_to_zero = sorted(self._to_wipe.union(output.new_block_ids_to_zero or ()))
            self._to_wipe = frozenset()
        return output

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        unsound = unsound_requests(model_runner_output)
        blocks = self._blocks(unsound)
        for request_id in unsound:
            model_runner_output.prompt_logprobs_dict.pop(request_id, None)
            if model_runner_output.sampled_token_ids:
                model_runner_output.sampled_token_ids[model_runner_output.req_id_to_index[request_id]] = []
        base: Any = super()
        outputs: dict[int, EngineCoreOutputs] = base.update_from_output(scheduler_output, model_runner_output)
        self._fail(unsound, outputs)
        self._wipe(blocks)
        return outputs

    def _fail(self, request_ids: set[str], outputs: dict[int, EngineCoreOutputs]) -> None:
        scheduler: Any = self
        for request_id in request_ids:
            request = scheduler.requests.get(request_id)
            if request is None or request.is_finished():
                continue
            scheduler.finish_requests(request_id, RequestStatus.FINISHED_ERROR)
            failed = EngineCoreOutput(request_id=request_id, new_token_ids=[], finish_reason=FinishReason.ERROR)
            outputs.setdefault(request.client_index, EngineCoreOutputs()).outputs.append(failed)

    def _blocks(self, request_ids: set[str]) -> set[int]:
        scheduler: Any = self
        known = [request_id for request_id in request_ids if request_id in scheduler.requests]
        return {
            block
            for request_id in known
            for group in scheduler.kv_cache_manager.get_block_ids(request_id)
            for block in group
        }

    def _wipe(self, blocks: set[int]) -> None:
        """Those that another request still shares fail with it."""
        scheduler: Any = self
        pool = scheduler.kv_cache_manager.block_pool
        free = {block for block in blocks if not pool.blocks[block].ref_cnt and not pool.blocks[block].is_null}
        if free and not scheduler.use_v2_model_runner:
            pool.evict_blocks(free)
            self._to_wipe |= free


class FailClosedScheduler(FailClosed, Turns, Scheduler):
    """For engines that schedule step by step."""


class FailClosedAsyncScheduler(FailClosed, Turns, AsyncScheduler):
    """For engines that schedule one step ahead."""
