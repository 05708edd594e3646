"""What a benchmark run measures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lethe_server.bench.shapes import FULL, SHAPES, TINY, Shape, context
from lethe_server.errors import BadOption

SHORT_PROMPT_TOKENS = 16 * 512  # of a cell; peers run in no longer ones, which would take most of a run
SHORT_TURNS = 4  # of a round in a short cell, where the machine's own ups and downs weigh more

Dtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True, order=True)
class Cell:
    """So many clients, each sending prompts of so many tokens."""

    concurrency: int
    prompt: int


class BenchSettings(BaseModel):
    """A run; its results are only continued by a run with the same settings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ratios: tuple[int, ...] = Field((4, 16, 40), min_length=1)
    concurrency: tuple[int, ...] = Field((1, 4, 16, 64), min_length=1)
    prompts: tuple[int, ...] = Field((32, 512, 1536), min_length=1)
    output_tokens: int = Field(48, ge=8)
    rounds: int = Field(1, ge=1)
    peers: bool = True
    modules: int = Field(64, ge=0, le=256)
    profile: bool = True
    dtype: Dtype = "bfloat16"
    eager: bool = False
    tiny: bool = False

    @classmethod
    def build(cls, **values: Any) -> Self:
        """Raises BadOption that names the field, its value and what is accepted."""
        try:
            return cls(**values)
        except ValidationError as err:
            first = err.errors()[0]
            name = ".".join(map(str, first["loc"])) or "settings"
            raise BadOption(f"{name}: got {first['input']!r}; {first['msg']}") from err

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for ratio in self.ratios:
            if ratio not in SHAPES:
                raise ValueError(f"ratios must be among {', '.join(map(str, SHAPES))}, got {ratio}")
        if min(self.concurrency) < 1 or min(self.prompts) < 2:
            raise ValueError("concurrency must be at least 1 and prompts at least 2 tokens long")
        if max(self.prompts) + self.output_tokens > context(self.tiny):
            raise ValueError(f"prompt and output together must fit the models' {context(self.tiny)} tokens")
        return self

    @property
    def large(self) -> Shape:
        return TINY if self.tiny else FULL

    @property
    def number_bytes(self) -> int:
        """Of a weight, and of a number in a KV cache."""
        return 2 if self.dtype == "bfloat16" else 4

    def cells(self) -> Iterator[Cell]:
        for concurrency in self.concurrency:
            for prompt in self.prompts:
                yield Cell(concurrency, prompt)

    def peers_run(self, cell: Cell) -> bool:
        return self.peers and self._is_short(cell)

    def turns(self, cell: Cell) -> int:
        """How often every system has its turn in a cell."""
        return self.rounds * (SHORT_TURNS if self._is_short(cell) else 1)

    def _is_short(self, cell: Cell) -> bool:
        return cell.concurrency * cell.prompt <= SHORT_PROMPT_TOKENS

    @property
    def max_requests(self) -> int:
        return max(*self.concurrency, self.modules)
