"""A recording on disk: a large model's log-probabilities at the answers of some data.

One safetensors file. It holds token ids and numbers, no text and no prompt; but the most probable tokens at an answer
mostly are the answer, so it is as confidential as the data.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lethe_offsets.digests import SALT_BYTES, HasVocabulary, tokenizer_digest
from lethe_offsets.errors import InvalidInput
from lethe_offsets.manifest import Digest
from lethe_offsets.recording.topk import TopK
from lethe_offsets.training.data import Example
from lethe_offsets.writing import replacing

HEADER = "recording"
DTYPES = {
    "keys": torch.uint8,
    "start": torch.int64,
    "places": torch.int64,
    "ids": torch.int32,
    "logprobs": torch.float32,
    "token_logprobs": torch.float32,
}


class Header(BaseModel):
    """What was recorded. model: its name at the endpoint. salt: hex, so that equal data isn't seen to be equal."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    model: str
    tokenizer_digest: Digest
    top_k: int = Field(gt=0)
    salt: str = Field(default_factory=lambda: secrets.token_hex(SALT_BYTES), pattern=r"^([0-9a-f]{2})+$")

    def key(self, ids: Sequence[int]) -> str:
        """Hex digest of token ids."""
        content = json.dumps(list(ids)).encode()
        return hmac.new(bytes.fromhex(self.salt), content, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """rows: an example's rows by its key. places [n]: where in it they stand, rising. top: what was said there.

    width: of the vocabulary, as far as it was seen.
    """

    path: Path
    header: Header
    rows: Mapping[str, slice]
    places: Tensor
    top: TopK
    width: int

    @classmethod
    def open(cls, path: str | Path) -> Recording:
        """Read and verify a file. Raises InvalidInput with what is wrong."""
        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                header = Header.model_validate_json((file.metadata() or {})[HEADER])
                tensors = {name: file.get_tensor(name) for name in DTYPES}
            _check(header, tensors)
        except (OSError, SafetensorError, ValidationError, ValueError, KeyError) as err:
            reason = str(err).strip().splitlines()[0]
            raise InvalidInput("recording", str(path), f"a file that lethe record has written ({reason})") from err
        keys, bounds, places = (tensors.pop(name) for name in ("keys", "start", "places"))
        rows = {bytes(key).hex(): slice(*bounds[at : at + 2].tolist()) for at, key in enumerate(keys.tolist())}
        return cls(path, header, rows, places, TopK(**tensors), int(tensors["ids"].max()) + 1)

    def check(self, examples: Sequence[Example], tokenizer: HasVocabulary, model: str | None = None) -> None:
        """Raises InvalidInput unless it holds all ``examples``, by this tokenizer and by ``model`` if one is named."""
        if model not in (None, self.header.model):
            raise InvalidInput("recording: model", self.header.model, f"{model}, the model that is meant")
        if self.header.tokenizer_digest != (own := tokenizer_digest(tokenizer)):
            raise InvalidInput("recording: tokenizer", self.header.tokenizer_digest, f"{own}, the small model's")
        missing = sum(not self._holds(example) for example in examples)
        if missing:
            accepted = f"the same data: {missing} of {len(examples)} examples are not in it; record them"
            raise InvalidInput("recording: data", str(self.path), accepted)

    def take(self, example: Example) -> TopK:
        """The rows of one example that is in it, one for each predicted token."""
        rows = self.rows[self.header.key(example.ids)]
        return self.top[rows][torch.searchsorted(self.places[rows], torch.tensor(answer_places(example)))]

    def logits(self, examples: Sequence[Example], width: int) -> Tensor:
        """Whole rows of the large model's logits, on the CPU: [n, vocab], one row for each predicted token.

        width: of the small model's logits; the vocabulary is wider only where a token beyond was seen.
        """
        top = TopK.cat([self.take(example) for example in examples])
        tokens = [example.ids[place] for example in examples for place in answer_places(example)]
        return top.logits(torch.tensor(tokens), max(self.width, width))

    def _holds(self, example: Example) -> bool:
        rows = self.rows.get(self.header.key(example.ids))
        return rows is not None and set(answer_places(example)) <= set(self.places[rows].tolist())


def answer_places(example: Example) -> list[int]:
    """The indices of the predicted tokens."""
    return [place for place, predicted in enumerate(example.answer) if predicted]


def write_recording(path: Path, header: Header, parts: Mapping[str, tuple[list[int], TopK]]) -> None:
    """Write places and rows by key, atomically. Raises InvalidInput for a path that can't be written."""
    top = TopK.cat([rows for _, rows in parts.values()])
    tensors = {
        "keys": torch.tensor([list(bytes.fromhex(key)) for key in parts], dtype=torch.uint8),
        "start": torch.tensor([0, *accumulate(len(places) for places, _ in parts.values())]),
        "places": torch.tensor([place for places, _ in parts.values() for place in places]),
        "ids": top.ids,
        "logprobs": top.logprobs,
        "token_logprobs": top.token_logprobs,
    }
    with replacing(path) as draft:
        save_file(tensors, draft, metadata={HEADER: header.model_dump_json()})


def _check(header: Header, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless the tensors fit together."""
    num_keys, num_rows = len(tensors["keys"]), len(tensors["places"])
    shapes = {"keys": (num_keys, 32), "start": (num_keys + 1,), "places": (num_rows,), "token_logprobs": (num_rows,)}
    shapes |= dict.fromkeys(("ids", "logprobs"), (num_rows, header.top_k))
    for name, tensor in tensors.items():
        if tensor.dtype != DTYPES[name] or tuple(tensor.shape) != shapes[name] or not tensor.numel():
            raise ValueError(f"{name} is {tensor.dtype}, {list(tensor.shape)}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} is not finite")
    start = tensors["start"].tolist()
    if [start[0], start[-1]] != [0, num_rows] or sorted(set(start)) != start:
        raise ValueError("start does not rise from 0 to the number of rows")
    if not all(bool((tensors["places"][first:end].diff() > 0).all()) for first, end in pairwise(start)):
        raise ValueError("places of an example do not rise")
    if bool((tensors["ids"] < 0).any()):
        raise ValueError("an id is negative")
