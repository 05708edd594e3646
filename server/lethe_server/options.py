"""vLLM's own options: read by vLLM's own parser, minus those that would reach past the offset or do nothing here."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, NoReturn

from vllm import AsyncEngineArgs
from vllm.utils.argparse_utils import FlexibleArgumentParser

from lethe_offsets.errors import InvalidInput
from lethe_server.engine.moved import FrontendArgs, make_arg_parser
from lethe_server.errors import BadOption

_MODULES = "modules are Lethe's adapters; see --module, --max-modules-per-batch and --max-module-rank"
_SETTING = "it is a setting of the server, not of the engine"
_ONE_MACHINE = "the engines of one server are on its machine; start several servers behind a load balancer"
_BY_CONTEXT = "a pair is not split by context"
_TEXT = "the pair computes text generation only"
_OWNED = "Lethe sets it"

# Engine options that are refused, and why. The engine itself refuses what its models can't do.
REFUSED = {
    "lora_modules": "adapters of the large model are not served; merge them into the large model first",
    **dict.fromkeys(("enable_lora", "max_loras", "max_lora_rank", "max_cpu_loras", "fully_sharded_loras"), _MODULES),
    **dict.fromkeys(("lora_dtype", "lora_target_modules", "default_mm_loras", "max_lora_cls_labels"), _MODULES),
    **dict.fromkeys(("enable_tower_connector_lora", "specialize_active_lora"), _MODULES),
    **dict.fromkeys(("enable_mixed_moe_lora_format", "enable_moe_shared_loras"), _MODULES),
    **dict.fromkeys(("model", "served_model_name"), _SETTING),
    **dict.fromkeys(("worker_cls", "worker_extension_cls", "scheduler_cls", "model_class_overrides"), _OWNED),
    **dict.fromkeys(("data_parallel_rank", "data_parallel_start_rank", "data_parallel_size_local"), _ONE_MACHINE),
    **dict.fromkeys(("data_parallel_external_lb", "data_parallel_multi_port_external_lb"), _ONE_MACHINE),
    **dict.fromkeys(("data_parallel_hybrid_lb", "enable_elastic_ep"), _ONE_MACHINE),
    **dict.fromkeys(("prefill_context_parallel_size", "decode_context_parallel_size"), _BY_CONTEXT),
    **dict.fromkeys(("runner", "convert", "pooler_config", "tokens_only", "skip_tokenizer_init"), _TEXT),
    **dict.fromkeys(("kv_transfer_config", "ec_transfer_config"), "the pair's cache can't be transferred"),
    "weight_transfer_config": "weights don't change while Lethe serves",
    "enable_prompt_embeds": "the small models can't read the large model's embeddings",
    "enable_return_routed_experts": "it would show the large model's own routing",
    "aux_output_config": "it would show the large model's own state",
    "scheduling_policy": "all requests are equal; clients can't choose a priority",
    "enable_sleep_mode": "the paths that use it are not served",
}
# Options of vLLM's HTTP server that its serving classes need; all others belong to parts that Lethe doesn't use.
FRONTEND = frozenset(
    {
        "chat_template",
        "chat_template_content_format",
        "trust_request_chat_template",
        "default_chat_template_kwargs",
        "response_role",
        "return_tokens_as_token_ids",
        "enable_auto_tool_choice",
        "exclude_tools_when_tool_choice_none",
        "tool_call_parser",
        "tool_parser_plugin",
        "tool_strict_level",
        "max_log_len",
        "enable_prompt_tokens_details",
        "enable_per_request_metrics",
        "enable_force_include_usage",
        "enable_log_outputs",
        "enable_log_deltas",
        "sse_keep_alive_interval",
        "fingerprint_mode",
        "fingerprint_value",
        "uvicorn_log_level",
        "disable_uvicorn_access_log",
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_ciphers",
    }
)


@dataclass(frozen=True)
class Options:
    """vLLM's options as its own types. engine: arguments of the engine; frontend: of the serving classes, complete."""

    engine: dict[str, Any]
    frontend: argparse.Namespace


class _Parser(FlexibleArgumentParser):
    """vLLM's parser, holding only what was given, with errors as exceptions."""

    def error(self, message: str) -> NoReturn:
        raise BadOption(f"{message}{self._hint(message)}")

    def _hint(self, message: str) -> str:
        unknown = next((word for word in message.split() if word.startswith("-")), "")
        near = get_close_matches(unknown.partition("=")[0], self._option_string_actions, n=1)
        return f"; did you mean {near[0]}?" if near and "unrecognized" in message else ""

    def actions(self) -> dict[str, argparse.Action]:
        return {action.dest: action for action in self._actions}


@cache
def _parser(*, raw: bool) -> _Parser:
    """raw: leave every value the text that it is, to be read later together with other sources'."""
    parser = _Parser(add_help=False, allow_abbrev=False)  # type: ignore[no-untyped-call]
    make_arg_parser(parser)
    for action in parser.actions().values():
        action.default = argparse.SUPPRESS
        if raw:
            action.type = action.choices = None
    return parser


def from_arguments(arguments: Sequence[str]) -> dict[str, Any]:
    """Command line arguments as option names and texts. Raises BadOption for an unknown one."""
    given: dict[str, Any] = vars(_parser(raw=True).parse_args(list(arguments)))
    if "model_tag" in given:
        raise BadOption(f"unexpected argument {given['model_tag']!r}; the model is given by --model")
    return given


def parse(given: Mapping[str, Any]) -> Options:
    """Options by name, values as text or as YAML types. Raises InvalidInput and BadOption for what can't be."""
    parser = _parser(raw=False)
    for name, value in given.items():
        _check(name, value, parser)
    arguments = [argument for name, value in given.items() for argument in _arguments(name, value, parser)]
    typed = vars(parser.parse_args(arguments))
    fields = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    frontend = {**vars(FrontendArgs()), **{name: value for name, value in typed.items() if name not in fields}}
    return Options({name: typed[name] for name in typed if name in fields}, argparse.Namespace(**frontend))


def _check(name: str, value: Any, parser: _Parser) -> None:
    fields = {field.name for field in dataclasses.fields(AsyncEngineArgs)}
    if name not in parser.actions() or name == "model_tag":
        near = ", ".join(get_close_matches(name, parser.actions(), n=2))
        raise InvalidInput(f"engine.{name}", value, f"an option of vLLM's{', such as ' + near if near else ''}")
    if name in REFUSED and value not in (None, False):
        raise InvalidInput(f"engine.{name}", value, f"nothing: {REFUSED[name]}")
    if name not in fields and name not in FRONTEND:
        raise InvalidInput(f"engine.{name}", value, "nothing: this part of vLLM's server is not used")


def _arguments(name: str, value: Any, parser: _Parser) -> list[str]:
    """One option as vLLM's parser wants it on a command line."""
    flag = f"--{name.replace('_', '-')}"
    if parser.actions()[name].nargs == 0:  # a switch
        on = str(value).lower() in ("true", "1", "yes", "on")
        off = f"--no-{name.replace('_', '-')}"
        return [flag] if on else [off] if off in parser.actions()[name].option_strings else []
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [flag, *map(str, value)]
    text = json.dumps(value) if isinstance(value, dict) else str(value)
    return [f"{flag}={text}"]
