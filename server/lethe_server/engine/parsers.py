"""Tool and reasoning parsers and the chat template: checked before the engine starts."""

from __future__ import annotations

from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager

from lethe_offsets.errors import InvalidInput
from lethe_server.engine.moved import ERRORS, load_chat_template
from lethe_server.options import Options

UNREADABLE: tuple[type[Exception], ...] = (OSError, ValueError, *ERRORS)


def load_parsers(options: Options) -> None:
    """Import the plugins of parsers. Raises InvalidInput for a parser or a template that doesn't exist."""
    engine, frontend = options.engine, options.frontend
    if frontend.tool_parser_plugin:
        ToolParserManager.import_tool_parser(frontend.tool_parser_plugin)
    if engine.get("reasoning_parser_plugin"):
        ReasoningParserManager.import_reasoning_parser(engine["reasoning_parser_plugin"])
    tool, reasoning = frontend.tool_call_parser, engine.get("reasoning_parser")
    if frontend.enable_auto_tool_choice and tool is None:
        raise InvalidInput("engine.tool_call_parser", None, "a parser, because enable_auto_tool_choice is set")
    _check_name("tool_call_parser", tool, ToolParserManager.list_registered())
    _check_name("reasoning_parser", reasoning, ReasoningParserManager.list_registered())
    try:
        load_chat_template(frontend.chat_template)
    except UNREADABLE as err:
        problem = " ".join(str(err).split())
        raise InvalidInput("engine.chat_template", frontend.chat_template, f"a template ({problem})") from err


def _check_name(field: str, name: str | None, registered: list[str]) -> None:
    if name and name not in registered:  # vLLM only logs a plugin that fails to import
        raise InvalidInput(f"engine.{field}", name, ", ".join(sorted(registered)))
