"""What a server can be told. Each default and its help text live here and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lethe_server.names import check_public_name


def _as_list(value: Any) -> Any:
    """A list from an environment variable: JSON, or items between commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [item.strip() for item in value.split(",") if item.strip()]


def _as_routes(value: Any) -> Any:
    """Routes from JSON, or from items ``PUBLIC=NAME``."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        return json.loads(value)
    items = _as_list(value)
    if not isinstance(items, list | tuple):
        return items
    if any(not isinstance(item, str) or "=" not in item for item in items):
        raise ValueError("each route must be PUBLIC=NAME")
    pairs = [item.split("=", 1) for item in items]
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("each public name can have one route")
    return dict(pairs)


Texts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_as_list)]
Paths = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_as_list)]
Keys = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_as_list)]
Routes = Annotated[dict[str, str], NoDecode, BeforeValidator(_as_routes)]


class Settings(BaseSettings):
    """The settings of a server; ``sources.load`` reads them from the command line, environment and a file."""

    model_config = SettingsConfigDict(
        env_prefix="LETHE_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,  # a key must not reach a log
    )

    model: str = Field(min_length=1, description="Large model: a directory or a hub name.")
    small_model: str = Field(min_length=1, description="Small model with the large model's tokenizer.")
    plus_model: str | None = Field(
        None,
        min_length=1,
        description="The plus lane's own model, of the small model's shape; minus keeps the small one.",
    )
    modules: Paths = Field((), description="Directory of a forget module to load at start. Repeatable.")
    routes: Routes = Field({}, description="Public model name and the module it stands for. Repeatable.")
    served_model_name: str | None = Field(
        None, description="Public name of the only module when no --route is given; default: the model's name."
    )
    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    admin_port: int | None = Field(
        None, ge=1, le=65535, description="Port for administration and metrics, which --port then refuses."
    )
    api_keys: Keys = Field((), description="Key for inference; without any, inference is open. Repeatable.")
    admin_keys: Keys = Field((), description="Key for /admin and for addressing modules by reference. Repeatable.")
    keys_file: Path | None = Field(None, description="YAML file of keys with roles; read again when it changes.")
    client_max_logprobs: int = Field(
        5, ge=0, description="Log-probabilities that a client may ask for at each token; evaluators have no bound."
    )
    log_format: Literal["text", "json"] = Field("text", description="Form of the log lines: text or json.")
    audit_log: Path | None = Field(None, description="File to which a line is added for every change.")
    state_dir: str | None = Field(
        None,
        min_length=1,
        description="Directory or URL that holds what is served and outlives the server; several servers may share it.",
    )
    cache_dir: Path = Field(Path("~/.cache/lethe"), description="Directory for modules that come from a URL.")
    module_sources: Texts = Field(
        (), description="Directory or URL below which modules may lie; default: where those at start lie. Repeatable."
    )
    trusted_keys: Paths = Field(
        (), description="Public key, a PEM file, one of which must have signed each module. Repeatable."
    )
    allow_unprotected: bool = Field(False, description="Allow routes to the large model alone.")
    console: bool = Field(True, description="Serve the console at /console; its page asks for a key.")
    drain_timeout_s: float = Field(60.0, gt=0, description="How long a module or the server waits for its requests.")
    max_body_bytes: int = Field(8 * 2**20, gt=0, description="Largest request body.")
    max_modules_per_batch: int = Field(4, ge=1, description="Modules that one engine step can mix.")
    max_resident_modules: int = Field(
        64, ge=1, description="Modules kept in the engine; further ones are brought in when they are asked for."
    )
    max_module_rank: int = Field(64, ge=1, description="Largest adapter rank of a module, both lanes together.")
    max_offsets_per_request: int = Field(
        1, ge=1, le=8, description="Modules whose offsets one answer can add; 1: several modules are merged instead."
    )
    draft_tokens: int = Field(
        0, ge=0, description="Tokens that the small model drafts for each step (speculative decoding); 0: none."
    )
    loop_tokens: int = Field(
        0, ge=0, description="Longest pattern, in tokens, that ends an answer under a module when it repeats; 0: none."
    )
    loop_count: int = Field(4, ge=2, description="How often in a row such a pattern has to stand there.")
    pair_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Number format of the pair; auto: the large model's."
    )
    side_stream: bool = Field(True, description="Let the pair run beside the large model on a GPU, not after it.")
    engine: dict[str, Any] = Field({}, description="vLLM's own options by name, such as max_model_len.")

    @field_validator("api_keys", "admin_keys")
    @classmethod
    def _usable(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in keys:
            text = key.get_secret_value()
            if not text or not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("each key must be printable ASCII without spaces")
        return keys

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if {key.get_secret_value() for key in self.api_keys} & {key.get_secret_value() for key in self.admin_keys}:
            raise ValueError("api_keys and admin_keys must not share a key")
        if self.admin_port == self.port:
            raise ValueError("admin_port must be another port than port")
        if self.routes and self.served_model_name is not None:
            raise ValueError("served_model_name has no effect beside routes; leave one of them out")
        return self

    @property
    def public_name(self) -> str:
        """The public name of the only module, and vLLM's name for the model in its metrics.

        Raises InvalidInput when the model's own name can't be a public one and has to be.
        """
        name = self.served_model_name or (Path(self.model).resolve().name if Path(self.model).exists() else self.model)
        return name if self.routes or not self.names_a_module else check_public_name(name, "served_model_name")

    @property
    def names_a_module(self) -> bool:
        """Whether there is something to serve besides what a state directory holds."""
        return bool(self.modules or self.routes or self.allow_unprotected or self.state_dir is None)

    @property
    def sources(self) -> tuple[str, ...]:
        """The directories and URLs below which modules may lie."""
        return self.module_sources or tuple(dict.fromkeys(str(path.resolve().parent) for path in self.modules))

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports to listen on, that for clients first."""
        return (self.port,) if self.admin_port is None else (self.port, self.admin_port)

    @property
    def cache(self) -> Path:
        return self.cache_dir.expanduser()
