"""The shapes of the benchmark's random models."""

from __future__ import annotations

from dataclasses import dataclass

VOCABULARY = 4096
HEAD_SIZE = 64
TINY_HEAD_SIZE = 32  # the least that vLLM's CPU attention takes


@dataclass(frozen=True)
class Shape:
    """A Llama. hidden: ``heads`` heads of ``head_size``; kv_heads: heads of keys and values."""

    heads: int
    kv_heads: int
    intermediate: int
    layers: int
    head_size: int = HEAD_SIZE
    vocabulary: int = VOCABULARY
    context: int = 2048

    @property
    def hidden(self) -> int:
        return self.heads * self.head_size

    @property
    def parameters(self) -> int:
        """Weights of the layers; embeddings and head are left out."""
        attention = 2 * self.hidden**2 + 2 * self.hidden * self.kv_heads * self.head_size
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def read_numbers(self) -> int:
        """Weights that one decode step reads, the head's among them."""
        return self.parameters + self.hidden * self.vocabulary

    @property
    def kv_numbers(self) -> int:
        """Numbers in one token's keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_size


FULL = Shape(heads=12, kv_heads=4, intermediate=2048, layers=10)  # 62.9 million
SHAPES = {  # large : small, and the small model
    4: Shape(heads=6, kv_heads=2, intermediate=1376, layers=8),
    16: Shape(heads=4, kv_heads=2, intermediate=768, layers=5),
    40: Shape(heads=3, kv_heads=1, intermediate=512, layers=4),
}
TINY = Shape(heads=4, kv_heads=2, intermediate=256, layers=2, head_size=TINY_HEAD_SIZE, vocabulary=512, context=256)
TINY_SMALL = Shape(heads=2, kv_heads=1, intermediate=64, layers=1, head_size=32, vocabulary=512, context=256)


def small_shape(ratio: int, tiny: bool) -> Shape:
    return TINY_SMALL if tiny else SHAPES[ratio]


def context(tiny: bool) -> int:
    return (TINY if tiny else FULL).context
