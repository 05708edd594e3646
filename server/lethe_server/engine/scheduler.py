"""A scheduler that fails closed: a request with an unsound row ends with an error, its tokens never leave."""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, FinishReason
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import RequestStatus


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
    """Mixin over vLLM's schedulers."""

    def update_from_output(
        self, scheduler_output: SchedulerOutput, model_runner_output: ModelRunnerOutput
    ) -> dict[int, EngineCoreOutputs]:
        unsound = unsound_requests(model_runner_output)
        for request_id in unsound:
            model_runner_output.prompt_logprobs_dict.pop(request_id, None)
            if model_runner_output.sampled_token_ids:
                model_runner_output.sampled_token_ids[model_runner_output.req_id_to_index[request_id]] = []
        base: Any = super()
        outputs: dict[int, EngineCoreOutputs] = base.update_from_output(scheduler_output, model_runner_output)
        self._fail(unsound, outputs)
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


class FailClosedScheduler(FailClosed, Scheduler):
    """For engines that schedule step by step."""


class FailClosedAsyncScheduler(FailClosed, AsyncScheduler):
    """For engines that schedule one step ahead."""
