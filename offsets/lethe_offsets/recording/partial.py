"""A recording that is being made: one small file for each finished example, so that a killed run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lethe_offsets.create import check_free
from lethe_offsets.errors import InvalidInput
from lethe_offsets.recording.file import Header, answer_places, write_recording
from lethe_offsets.recording.topk import TopK
from lethe_offsets.training.data import Example
from lethe_offsets.writing import replacing, writing

HEADER_FILE = "recording.json"


@dataclass(frozen=True, slots=True)
class Partial:
    """The directory ``<out>.partial``, made when the first example is kept."""

    out: Path
    header: Header

    @classmethod
    def open(cls, out: Path, model: str, tokenizer_digest: str, top_k: int) -> Partial:
        """Begin, or go on with what is there.

        Raises InvalidInput when ``out`` exists, and for what was begun with another model, tokenizer or K.
        """
        check_free(out)
        partial = cls(out, Header(model=model, tokenizer_digest=tokenizer_digest, top_k=top_k))
        if not partial.header_file.exists():
            return partial
        try:
            begun = Header.model_validate_json(partial.header_file.read_bytes())
        except (OSError, ValidationError) as err:
            raise InvalidInput("out", str(partial.folder), "a recording in the making; delete it") from err
        if begun != partial.header.model_copy(update={"salt": begun.salt}):
            accepted = f"model {model}, the same tokenizer and top_k {top_k}, as now; delete it to start afresh"
            found = f"{partial.folder}, begun with model {begun.model} and top_k {begun.top_k}"
            raise InvalidInput("out", found, accepted)
        return cls(out, begun)

    @property
    def folder(self) -> Path:
        return self.out.with_name(f"{self.out.name}.partial")

    @property
    def header_file(self) -> Path:
        return self.folder / HEADER_FILE

    def holds(self, example: Example) -> bool:
        """Whether the example is done."""
        return self._file(example).is_file()

    def keep(self, example: Example, rows: TopK) -> None:
        """Write an example's rows; seen whole or not at all. Raises InvalidInput where nothing can be written."""
        tensors = {"ids": rows.ids, "logprobs": rows.logprobs, "token_logprobs": rows.token_logprobs}
        if not self.header_file.exists():
            with writing(self.out):
                self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self.header_file) as draft:
                draft.write_text(self.header.model_dump_json(), encoding="utf-8")
        with replacing(self._file(example)) as draft:
            save_file(tensors, draft)

    def finish(self, examples: Sequence[Example]) -> None:
        """Write the whole recording of ``examples``, all different, to ``out`` and remove the parts."""
        try:
            parts = {
                self.header.key(example.ids): (answer_places(example), TopK(**load_file(self._file(example))))
                for example in examples
            }
        except (OSError, SafetensorError, TypeError) as err:
            raise InvalidInput("out", str(self.folder), f"whole files; delete it to start afresh ({err})") from err
        write_recording(self.out, self.header, parts)
        shutil.rmtree(self.folder)

    def _file(self, example: Example) -> Path:
        return self.folder / f"{self.header.key([*example.ids, *example.answer])}.safetensors"
