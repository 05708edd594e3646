"""vLLM's own OpenAI serving, over a client and with routed models: the objects, the paths and the error handlers.

With ``moved``, which finds its parts, the one file that touches vLLM's entrypoints. Written against 0.32: the wiring of
the serving classes is that of ``vllm.entrypoints.launchers.api_server.app_state``.
"""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

import vllm
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import State
from vllm.entrypoints.openai.chat_completion.serving import OpenAIServingChat
from vllm.entrypoints.openai.completion.serving import OpenAIServingCompletion
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.entrypoints.openai.responses.serving import OpenAIServingResponses
from vllm.entrypoints.serve.tokenize.serving import ServingTokenization
from vllm.entrypoints.serve.utils.fingerprint import set_default_fingerprint_mode
from vllm.entrypoints.serve.utils.request_logger import RequestLogger
from vllm.lora.request import LoRARequest
from vllm.renderers.online_renderer import OnlineRenderer
from vllm.v1.metrics.prometheus import get_prometheus_registry

from lethe_server.door import Door
from lethe_server.engine.moved import (
    ERRORS,
    ErrorResponse,
    ModelCard,
    ModelList,
    create_error_response,
    load_chat_template,
)
from lethe_server.routing import RouteTable
from lethe_server.scope import current

VLLM_VERSION = vllm.__version__
RAW_ERRORS = (*ERRORS, ValueError, TypeError, OverflowError, NotImplementedError)  # vLLM gives each a status


class PinnedModule(Mapping[str, LoRARequest]):
    """vLLM's table of adapters by name, as one request sees it: the module it was routed to, and nothing else."""

    def __getitem__(self, name: str) -> LoRARequest:
        scope = current()
        if name != scope.model or scope.resident is None or scope.resident.loaded is None:
            raise KeyError(name)
        request: LoRARequest = scope.resident.loaded.request(name)
        return request

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class RoutedModels(OpenAIServingModels):
    """What vLLM's serving classes ask about model names, answered from the current request and the route table."""

    lora_requests: Any  # a dictionary to vLLM, which only looks names up

    def __init__(self, client: Any, routes: RouteTable) -> None:
        super().__init__(engine_client=client, base_model_paths=[])
        self.lora_requests = PinnedModule()
        self._routes = routes

    def is_base_model(self, model_name: str) -> bool:
        """Whether the request was routed to the large model alone under this name."""
        scope = current()
        return model_name == scope.model and scope.resident is not None and scope.resident.loaded is None

    def model_name(self, lora_request: LoRARequest | None = None) -> str:
        """The name that the client asked for."""
        return current().model or ""

    async def resolve_lora(self, lora_name: str) -> LoRARequest | ErrorResponse:
        """Adapters never come from a request."""
        return create_error_response(f"model {lora_name!r} does not exist", status_code=HTTPStatus.NOT_FOUND)

    async def show_available_models(self) -> ModelList:
        """The public names. Nothing says which module or model answers for them."""
        length = self.model_config.max_model_len
        return ModelList(
            data=[
                ModelCard(id=name, root=name, owned_by="lethe", created=0, max_model_len=length)
                for name in filter(current().caller.may_use, self._routes.names())
            ]
        )


def _make(serving_class: type[Any], parts: Mapping[str, Any]) -> Any:
    """An instance from those ``parts`` that its constructor names; vLLM keeps one name for a part in all classes."""
    names = inspect.signature(serving_class).parameters
    return serving_class(**{name: part for name, part in parts.items() if name in names})


def install_serving(state: State, door: Door, routes: RouteTable, args: Namespace, log_requests: bool) -> None:
    """Put vLLM's serving objects where its route handlers look for them, ``app.state``.

    args: vLLM's frontend options, whose parsers are registered.
    """
    set_default_fingerprint_mode(args.fingerprint_mode, args.fingerprint_value)
    parts = {
        **vars(args),
        "engine_client": door,
        "model_config": door.model_config,
        "renderer": door.renderer,
        "models": RoutedModels(door, routes),
        "request_logger": RequestLogger(max_log_len=args.max_log_len) if log_requests else None,
        "chat_template": load_chat_template(args.chat_template),
        "default_chat_template_kwargs": args.default_chat_template_kwargs,
        "enable_auto_tools": args.enable_auto_tool_choice,
        "tool_parser": args.tool_call_parser,
        "reasoning_parser": door.vllm_config.structured_outputs_config.reasoning_parser,
        "tool_server": None,
        "log_error_stack": False,
    }
    renderer = parts["online_renderer"] = _make(OnlineRenderer, parts)
    state.args = args
    state.openai_serving_models = parts["models"]
    state.openai_serving_completion = _make(OpenAIServingCompletion, parts)
    state.openai_serving_chat = _make(OpenAIServingChat, parts)
    (renderer if hasattr(renderer, "warmup") else state.openai_serving_chat).warmup()  # the latter in 0.26
    state.openai_serving_responses = _make(OpenAIServingResponses, parts)
    state.openai_serving_responses.enable_store = False  # an environment variable would switch it on
    state.serving_tokenization = _make(ServingTokenization, parts)


def install_error_handlers(app: FastAPI) -> None:
    """Answer vLLM's errors as vLLM does."""

    async def answer(request: Request, error: Exception) -> JSONResponse:
        body = create_error_response(error)
        return JSONResponse(body.model_dump(), status_code=body.error.code)

    for kind in RAW_ERRORS:
        app.add_exception_handler(kind, answer)


def engine_registry() -> Any:
    """The Prometheus registry that holds vLLM's metrics."""
    return get_prometheus_registry()
