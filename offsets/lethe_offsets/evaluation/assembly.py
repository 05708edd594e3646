"""The models of an evaluation, from what a user gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from lethe_offsets.digests import tokenizer_digest
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.evaluation.endpoint import Address, Served
from lethe_offsets.evaluation.local import Local
from lethe_offsets.evaluation.models import Judged
from lethe_offsets.evaluation.outcome import About
from lethe_offsets.module import Module
from lethe_offsets.training.large import sound_tokenizer

NO_TARGET = "none"


@dataclass(frozen=True, slots=True)
class Options:
    """What ``lethe eval`` was told about models; the command's help says what each is."""

    url: str | None = None
    model: str | None = None
    api_key: str | None = None
    tokenizer: str | None = None
    target: str = "base"
    large: str | None = None
    small: str | None = None
    module: Path | None = None
    strength: float | None = None
    retrained: str | None = None
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"

    def open(self) -> tuple[dict[str, Judged], About]:
        """The models by name, and what is known of the judged one.

        Raises InvalidInput where too little, too much or the wrong thing is given.
        """
        module = Module.open(self.module) if self.module is not None else None
        if self.url is not None and self.large is None:
            models = self._at_server(module)
        elif self.large is not None and self.url is None:
            models = self._in_process(module)
        elif self.retrained is not None and self.url is None:
            models = {}
        else:
            raise InvalidInput("url, large", [self.url, self.large], "one of the two: a server, or models in process")
        if self.retrained is not None:
            models["retrained"] = self._retrained(models)
        judged = models.get("module")
        answering = judged.answering if isinstance(judged, Served) else None
        return models, _about(module, answering or self.model or self.large or str(self.retrained))

    def _at_server(self, module: Module | None) -> dict[str, Judged]:
        if self.model is None:
            raise InvalidInput("model", None, "the name to ask the server for")
        source = self.tokenizer or self.small or (module.manifest.small_model.id if module is not None else None)
        if source is None:
            raise InvalidInput("tokenizer", None, "the served model's tokenizer: a directory or Hub name")
        tokenizer = sound_tokenizer("tokenizer", source)
        address = Address(str(self.url), self.model, self.api_key, self.strength)
        served = Served.open("module", address, tokenizer)
        if module is not None and served.answering not in (None, module.ref):
            raise ModuleIncompatible("module", module.ref, f"{served.answering}, which answers for {self.model}")
        models: dict[str, Judged] = {"module": served}
        if self.target not in (NO_TARGET, self.model):
            beside = Address(str(self.url), self.target, self.api_key)
            try:
                models["target"] = Served.open("target", beside, tokenizer)
            except InvalidInput as err:
                raise _without_target(err, self.target) from err
        return models

    def _in_process(self, module: Module | None) -> dict[str, Judged]:
        if module is None:
            return {"module": self._local("module", self.large)}
        small = self.small or module.manifest.small_model.id
        target = self._local("target", self.large)
        judged = Local.of_module("module", target, small, module, self.strength)
        return {"module": judged} if self.target == NO_TARGET else {"module": judged, "target": target}

    def _local(self, name: str, source: str | None) -> Local:
        device = self.device
        if device == "auto":
            gpus = torch.cuda.device_count()
            device = "auto" if gpus > 1 else "cuda" if gpus else "cpu"
        return Local.of_model(name, str(source), device, getattr(torch, self.dtype))

    def _retrained(self, models: dict[str, Judged]) -> Local:
        found = self._local("retrained", self.retrained)
        for judged in models.values():
            if tokenizer_digest(judged.tokenizer) != tokenizer_digest(found.tokenizer):
                raise ModuleIncompatible("retrained", str(self.retrained), "a model with the judged model's tokenizer")
        return found


def _without_target(err: InvalidInput, target: str) -> InvalidInput:
    """The target can't be had: another name, or none."""
    accepted = f"the large model alone, which this key may use, or --target {NO_TARGET} to go without it ({err})"
    return InvalidInput("target", target, accepted)


def _about(module: Module | None, name: str) -> About:
    if module is None:
        return About(ref=name)
    manifest = module.manifest
    return About(
        ref=module.ref,
        description=manifest.description,
        created=manifest.created.isoformat(),
        algorithm=manifest.algorithm,
        forget_set_digest=manifest.forget_set_digest,
        small_model=manifest.small_model.id,
        large_model=manifest.large_model,
    )
