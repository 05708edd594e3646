"""Names of vLLM's HTTP server, from where the installed version has them.

Between 0.26 and 0.32 they moved to other modules, with the same meaning. Each is looked for, newest place first; those
of the engine itself did not move and are imported where they are used.
"""

from __future__ import annotations

from importlib import import_module
from inspect import isclass
from typing import Any

from vllm import exceptions

from lethe_server.errors import StartupFailed


def find(name: str, *modules: str) -> Any:
    """``name`` from the first of these modules that has it. Raises StartupFailed when none has."""
    for module in modules:
        try:
            return getattr(import_module(module), name)
        except AttributeError:
            continue
        except ModuleNotFoundError as err:
            if not module.startswith(err.name or "-"):  # something that the module itself needs
                raise
    raise StartupFailed(
        f"this version of vLLM has no {name} in {' or '.join(modules)}; see pyproject.toml for versions"
    )


_CLI = ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
_PROTOCOL = ("vllm.entrypoints.serve.engine.protocol", "vllm.entrypoints.openai.engine.protocol")

FrontendArgs = find("FrontendArgs", *_CLI)
make_arg_parser = find("make_arg_parser", *_CLI)
ErrorResponse = find("ErrorResponse", *_PROTOCOL)
ModelCard = find("ModelCard", *_PROTOCOL)
ModelList = find("ModelList", *_PROTOCOL)
create_error_response = find(
    "create_error_response", "vllm.entrypoints.serve", "vllm.entrypoints.serve.utils.error_response"
)
load_chat_template = find("load_chat_template", "vllm.renderers.chat_utils", "vllm.entrypoints.chat_utils")

# One base class in 0.32, several classes without one before.
ERRORS: tuple[type[Exception], ...] = tuple(
    each
    for each in vars(exceptions).values()
    if isclass(each) and issubclass(each, Exception) and each.__module__ == exceptions.__name__
)
