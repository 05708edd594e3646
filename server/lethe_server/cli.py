"""``lethe serve``: the command line, turned into settings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from lethe_offsets.errors import InvalidInput
from lethe_offsets.examples import Command
from lethe_server import sources, versions
from lethe_server.errors import BadOption
from lethe_server.settings import Settings

USAGE_ERROR = 2
FORWARD_UNKNOWN = {"allow_extra_args": True, "ignore_unknown_options": True}

EXAMPLES = r"""
lethe serve --model Qwen/Qwen3-8B --small-model Qwen/Qwen3-0.6B \
    --module modules/forget-marta --served-model-name my-model \
    --keys-file keys.yaml --audit-log audit.jsonl

lethe serve --config lethe.yaml --port 8080 \
    --max-model-len 4096 --dtype bfloat16
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _option(field: str, flag: str, metavar: str | None = None) -> Any:
    """An option with the help and default of the setting, without square brackets: rich reads them as markup."""
    described = Settings.model_fields[field]
    default = "" if described.is_required() or described.default in ((), {}, None, False) else described.default
    text = f"{described.description} (default: {default})" if default != "" else described.description
    values = get_args(described.annotation) if get_origin(described.annotation) is Literal else ()
    complete = (lambda: values) if values else None
    return typer.Option(*flag.split(","), metavar=metavar, help=text, show_default=False, autocompletion=complete)


@app.command(cls=Command, epilog=EXAMPLES, context_settings=FORWARD_UNKNOWN)
def serve(
    context: typer.Context,
    model: Annotated[str | None, _option("model", "--model", "DIR_OR_NAME")] = None,
    small_model: Annotated[str | None, _option("small_model", "--small-model,--minus-model", "DIR_OR_NAME")] = None,
    plus_model: Annotated[str | None, _option("plus_model", "--plus-model", "DIR_OR_NAME")] = None,
    module: Annotated[list[Path] | None, _option("modules", "--module", "DIR")] = None,
    route: Annotated[list[str] | None, _option("routes", "--route", "PUBLIC=NAME")] = None,
    served_model_name: Annotated[str | None, _option("served_model_name", "--served-model-name", "NAME")] = None,
    host: Annotated[str | None, _option("host", "--host")] = None,
    port: Annotated[int | None, _option("port", "--port")] = None,
    admin_port: Annotated[int | None, _option("admin_port", "--admin-port")] = None,
    api_key: Annotated[list[str] | None, _option("api_keys", "--api-key", "KEY")] = None,
    admin_key: Annotated[list[str] | None, _option("admin_keys", "--admin-key", "KEY")] = None,
    keys_file: Annotated[Path | None, _option("keys_file", "--keys-file", "FILE")] = None,
    client_max_logprobs: Annotated[int | None, _option("client_max_logprobs", "--client-max-logprobs")] = None,
    log_format: Annotated[str | None, _option("log_format", "--log-format", "FORM")] = None,
    audit_log: Annotated[Path | None, _option("audit_log", "--audit-log", "FILE")] = None,
    state_dir: Annotated[str | None, _option("state_dir", "--state-dir", "DIR_OR_URL")] = None,
    cache_dir: Annotated[Path | None, _option("cache_dir", "--cache-dir", "DIR")] = None,
    module_source: Annotated[
        list[str] | None, _option("module_sources", "--module-source,--module-dir", "DIR_OR_URL")
    ] = None,
    trusted_keys: Annotated[list[Path] | None, _option("trusted_keys", "--trusted-keys", "FILE")] = None,
    allow_unprotected: Annotated[bool, _option("allow_unprotected", "--allow-unprotected")] = False,
    console: Annotated[bool | None, _option("console", "--console/--no-console")] = None,
    drain_timeout: Annotated[float | None, _option("drain_timeout_s", "--drain-timeout", "SECONDS")] = None,
    max_body_bytes: Annotated[int | None, _option("max_body_bytes", "--max-body-bytes", "BYTES")] = None,
    max_modules_per_batch: Annotated[int | None, _option("max_modules_per_batch", "--max-modules-per-batch")] = None,
    max_resident_modules: Annotated[int | None, _option("max_resident_modules", "--max-resident-modules")] = None,
    max_module_rank: Annotated[int | None, _option("max_module_rank", "--max-module-rank")] = None,
    max_offsets_per_request: Annotated[
        int | None, _option("max_offsets_per_request", "--max-offsets-per-request")
    ] = None,
    draft_tokens: Annotated[int | None, _option("draft_tokens", "--draft-tokens", "NUMBER")] = None,
    loop_tokens: Annotated[int | None, _option("loop_tokens", "--loop-tokens")] = None,
    loop_count: Annotated[int | None, _option("loop_count", "--loop-count")] = None,
    pair_dtype: Annotated[str | None, _option("pair_dtype", "--pair-dtype", "DTYPE")] = None,
    side_stream: Annotated[bool | None, _option("side_stream", "--side-stream/--no-side-stream")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="YAML file of settings.")] = None,
) -> None:
    """Serve a large model with forget modules beside it.

    Each setting can also be an environment variable, LETHE_MODEL for --model, or stand in the file. Every option of
    vLLM's engine is accepted as well, such as --dtype, --max-model-len or --tensor-parallel-size.
    """
    given = {
        "model": model,
        "small_model": small_model,
        "plus_model": plus_model,
        "modules": module,
        "routes": route,
        "served_model_name": served_model_name,
        "host": host,
        "port": port,
        "admin_port": admin_port,
        "api_keys": api_key,
        "admin_keys": admin_key,
        "keys_file": keys_file,
        "client_max_logprobs": client_max_logprobs,
        "log_format": log_format,
        "audit_log": audit_log,
        "state_dir": state_dir,
        "cache_dir": cache_dir,
        "module_sources": module_source,
        "trusted_keys": trusted_keys,
        "allow_unprotected": allow_unprotected or None,
        "console": console,
        "drain_timeout_s": drain_timeout,
        "max_body_bytes": max_body_bytes,
        "max_modules_per_batch": max_modules_per_batch,
        "max_resident_modules": max_resident_modules,
        "max_module_rank": max_module_rank,
        "max_offsets_per_request": max_offsets_per_request,
        "draft_tokens": draft_tokens,
        "loop_tokens": loop_tokens,
        "loop_count": loop_count,
        "pair_dtype": pair_dtype,
        "side_stream": side_stream,
    }
    versions.check()
    _prepare_children()
    settings = _settings(
        {name: value for name, value in given.items() if value not in (None, [])}, config, context.args
    )
    from lethe_server.run import run  # imports the engine, which takes seconds; not needed for --help

    run(settings)


def _prepare_children() -> None:
    """Environment of the engine's processes, for which vLLM leaves no other way."""
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # as vLLM's own command: fork would copy our socket
    # vLLM leaves shared memory to Python's resource tracker, which says so after our own last line.
    quiet = "ignore::UserWarning:multiprocessing.resource_tracker"
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), quiet)))


def _settings(given: dict[str, Any], config: Path | None, engine_arguments: list[str]) -> Settings:
    """The settings; ends the process with a usage error for what can't be."""
    try:
        if engine_arguments:
            from lethe_server import options

            given["engine"] = options.from_arguments(engine_arguments)
        return sources.load(given, config)
    except (InvalidInput, BadOption) as err:
        print(f"lethe serve: {err}", file=sys.stderr)
        raise typer.Exit(USAGE_ERROR) from err
