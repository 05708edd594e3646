"""The keys file: who may use the server, by the hash of each key; read again when it changes.

keys:
  - name: shop
    role: client                       # client, monitor, evaluator or admin
    hash: sha256:<64 hex digits>       # of the key; the key itself is nowhere
    models: [my-model]                 # public names, for clients; absent: all
    max_logprobs: 0                    # absent: the role's own bound
"""

from __future__ import annotations

import logging
import os
import re
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lethe_offsets.errors import InvalidInput
from lethe_server.auth import Caller, Key, Role
from lethe_server.names import NAME_FORM, is_public_name

CHECK_EVERY_S = 1.0
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
HASH = r"^sha256:[0-9a-f]{64}$"
RESERVED = re.compile(r"anonymous|(api|admin)-\d+")  # callers without a key of a file
SHOWN = (("name",), ("role",), ("models",), ("max_logprobs",))  # fields whose value an error may tell
FIELDS = "name, role, hash, models, max_logprobs"
PLAIN_KEY = "the hash of a key, sha256:<64 hex digits>; keep no plain key in the file: 'lethe keys add' makes both"
log = logging.getLogger(__name__)

_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where built


class KeyEntry(BaseModel):
    """One key of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=NAME)]
    role: Literal["client", "monitor", "evaluator", "admin"]
    hash: Annotated[str, Field(pattern=HASH)]
    models: tuple[str, ...] | None = Field(None, min_length=1)
    max_logprobs: Annotated[int, Field(ge=0, strict=True)] | None = None

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if RESERVED.fullmatch(name):
            raise ValueError("another name; anonymous, api-<number> and admin-<number> are taken")
        return name

    @field_validator("models")
    @classmethod
    def _public(cls, models: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if models and not all(is_public_name(name) for name in models):
            raise ValueError(f"public model names, each {NAME_FORM}")
        return models

    @model_validator(mode="after")
    def _models_are_for_clients(self) -> Self:
        if self.models is not None and self.role != "client":
            raise ValueError(f"models only for role client; {self.role} may use every model")
        return self

    def key(self) -> Key:
        models = None if self.models is None else frozenset(self.models)
        digest = bytes.fromhex(self.hash.removeprefix("sha256:"))
        return Key(digest, Caller(self.name, Role(self.role), models, self.max_logprobs))


class KeyEntries(BaseModel):
    """The file's content."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    keys: tuple[KeyEntry, ...] = ()


def read_entries(path: Path) -> KeyEntries:
    """The file's content. Raises InvalidInput, which never shows a hash or a key."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InvalidInput("keys_file", str(path), "a regular file")
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader: it makes plain values only
    except OSError as err:
        raise InvalidInput("keys_file", str(path), f"a file that can be read ({err.strerror})") from err
    except (UnicodeDecodeError, yaml.YAMLError) as err:
        mark = getattr(err, "problem_mark", None)  # the error's own text quotes the file
        where = "" if mark is None else f" (line {mark.line + 1})"
        raise InvalidInput("keys_file", str(path), f"a YAML file{where}") from err
    if content is not None and not isinstance(content, dict):
        raise InvalidInput("keys_file", str(path), "a YAML mapping with the key 'keys'")
    try:
        entries = KeyEntries.model_validate(content or {})
    except ValidationError as err:
        raise describe(str(path), err) from err
    _check_unique(path, [entry.key() for entry in entries.keys])
    return entries


class KeysFile:
    """The keys of a file, as it was when it was last valid. path: re-read at most once in ``CHECK_EVERY_S``."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._given: Sequence[Key] = ()
        self._keys: tuple[Key, ...] = ()
        self._seen: tuple[int, ...] | None = None
        self._checked_at = 0.0
        self.error: str | None = None

    def open(self, given: Sequence[Key]) -> None:
        """Read the file for the first time. given: the command line's keys, none of which may be in it.

        Raises InvalidInput.
        """
        self._given = given
        self._checked_at = self._clock()
        self._seen = self._identity()
        self._keys = self._read()

    def current(self) -> Sequence[Key]:
        """The keys in force."""
        if self._clock() - self._checked_at >= CHECK_EVERY_S:
            self._checked_at = self._clock()
            self._reload()
        return self._keys

    def _reload(self) -> None:
        identity = self._identity()
        if identity == self._seen:
            return
        self._seen = identity
        try:
            self._keys = self._read()
        except InvalidInput as err:
            self.error = str(err)
            log.error("the keys file is not valid, the keys before stay in force: %s", err)
        else:
            self.error = None
            log.info("read %d keys of %s", len(self._keys), self._path)

    def _read(self) -> tuple[Key, ...]:
        keys = tuple(entry.key() for entry in read_entries(self._path).keys)
        _check_unique(self._path, [*self._given, *keys])
        _check_mode(self._path)
        return keys

    def _identity(self) -> tuple[int, ...] | None:
        """What changes when the file does; None: it can't be reached."""
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode


def _check_unique(path: Path, keys: Sequence[Key]) -> None:
    for what, values in (("name", [key.caller.name for key in keys]), ("hash", [key.digest for key in keys])):
        first = {value: number for number, value in reversed(list(enumerate(values)))}
        for number, value in enumerate(values):
            if first[value] != number:  # the same key twice would have two roles
                others = f"{keys[first[value]].caller.name} has it too"
                raise InvalidInput(f"{path}: {what}", keys[number].caller.name, f"a {what} of its own; {others}")


def _check_mode(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & stat.S_IWOTH:
        raise InvalidInput("keys_file", str(path), f"a file that only its owner can change (chmod o-w {path})")
    if mode & stat.S_IROTH:
        log.warning("%s can be read by every user of this machine; 'chmod 600' hides who has keys", path)


def describe(where: str, error: ValidationError) -> InvalidInput:
    """Every problem, without the value of a field that may hold a key."""
    told = []
    for each in error.errors(include_url=False):
        field = ".".join(str(part) for part in each["loc"])
        message = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            message = f"no such field; the fields are {FIELDS}. Keep no plain key in the file"
        elif each["loc"][-1:] == ("hash",) and each["type"] != "missing":
            message = PLAIN_KEY
        told.append((f"{where}: {field}" if field else where, message))
    shown = error.errors()[0]["input"] if error.errors()[0]["loc"][-1:] in SHOWN else None
    (first, message), *rest = told
    return InvalidInput(first, shown, "; ".join([message, *(f"also {field}: {text}" for field, text in rest)]))
