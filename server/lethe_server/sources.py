"""Where settings come from: the command line, then the environment, then a file, then the defaults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsError,
)

from lethe_offsets.errors import InvalidInput
from lethe_server.settings import Settings

PREFIX = "LETHE_"
SECRET = ("api_keys", "admin_keys")
OPERATOR = ("LETHE_URL", "LETHE_ADMIN_KEY")  # of the commands that talk to a running server
# Kubernetes sets these in every container beside a Service called "lethe"; they are not meant for us.
SERVICE_LINK = re.compile(r"LETHE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP)(_\w+)?)?)")


def load(given: Mapping[str, Any], config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings. given: what the command line said. Raises InvalidInput that names every problem."""
    environ = os.environ if environ is None else environ
    variables = {
        name: value
        for name, value in environ.items()
        if name.startswith(PREFIX) and name not in OPERATOR and not _is_link(name, value)
    }
    _check_keys(variables, [PREFIX + field.upper() for field in Settings.model_fields], "environment")
    from_file = {} if config is None else _read(config)
    _check_keys(from_file, Settings.model_fields, str(config))

    class Sourced(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            environment = EnvSettingsSource(settings_cls)
            environment.env_vars = {name.lower(): value for name, value in variables.items()}
            return init_settings, environment, InitSettingsSource(settings_cls, from_file)

    try:
        return Sourced(**given)
    except ValidationError as err:
        raise _invalid(err) from err
    except SettingsError as err:  # a variable that isn't the JSON it must be
        raise InvalidInput("environment", str(err), "JSON for engine") from err


def _is_link(name: str, value: str) -> bool:
    return bool(SERVICE_LINK.fullmatch(name)) and (name != "LETHE_PORT" or value.startswith(("tcp://", "udp://")))


def _check_keys(found: Iterable[str], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in found:
        top = key.split("__", 1)[0] if key.startswith(PREFIX) else key
        if top not in known:
            near = get_close_matches(top, known, n=2)
            raise InvalidInput(f"{where}: {key}", None, f"a known setting, such as {', '.join(near or known)}")


def _read(config: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        problem = " ".join(str(err).split())
        raise InvalidInput("config", str(config), f"a readable YAML file ({problem})") from err
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InvalidInput("config", str(config), "a YAML mapping of settings")
    return content


def _invalid(error: ValidationError) -> InvalidInput:
    """All problems in one line; the value of the first, unless it is a key."""
    first, *rest = error.errors(include_url=False)
    accepted = [_accepted(first)] + [f"also {_field(other)}: {_accepted(other)}" for other in rest]
    hidden = first["type"] == "missing" or not first["loc"] or first["loc"][0] in SECRET
    return InvalidInput(_field(first), None if hidden else first["input"], "; ".join(accepted))


def _field(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"]) or "settings"


def _accepted(error: ErrorDetails) -> str:
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{message}; set it on the command line, as {PREFIX}{_field(error).upper()} or in the file"
    return message
