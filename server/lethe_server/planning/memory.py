"""What fits on a GPU: weights, adapter slots, and the tokens that the KV cache holds beside them."""

from __future__ import annotations

from dataclasses import dataclass

from lethe_offsets.errors import InvalidInput
from lethe_server.planning.precision import DTYPES
from lethe_server.planning.sizes import ModelSize

GIB = 2**30
BLOCK = 16  # tokens of a KV cache block
UTILIZATION = 0.92  # vLLM's own default
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # of adapter slots; vLLM knows no others
BASE = 1.5 * GIB  # CUDA's context, captured graphs, buffers for collectives
LANES = 2  # of each module that a request can have


@dataclass(frozen=True)
class Pair:
    """Two models as they are to be served. dtype: of activations and KV cache. large_bytes, small_bytes: of a weight of
    a layer. slots, rank: of the adapters. lane_weights: how many sets of weights the lanes have, 1 or 2. offsets:
    modules that a request can have."""

    large: ModelSize
    small: ModelSize
    dtype: str
    large_bytes: float
    small_bytes: float
    slots: int
    rank: int
    lane_weights: int = 1
    offsets: int = 1

    @property
    def lanes(self) -> int:
        return LANES * self.offsets

    @property
    def context(self) -> int:
        """The longest that both models hold."""
        return min(self.large.context, self.small.context)

    def weights(self, model: ModelSize, layer_bytes: float) -> float:
        """Bytes; embedding and head are never quantized."""
        return (model.layers + model.experts) * layer_bytes + (model.embedding + model.head) * DTYPES[self.dtype]

    @property
    def adapters(self) -> int:
        """Bytes of all slots, which are taken whether modules fill them or not."""
        return self.slots * slot_rank(self.rank) * self.small.linear * DTYPES[self.dtype]


@dataclass(frozen=True)
class Memory:
    """Bytes on each GPU. available: what vLLM may take. working: a rough estimate, all else is counted. large_token,
    pair_token: of one token's KV, in the large model and in all lanes. requests: at most in one step."""

    available: float
    large: float
    small: float
    adapters: float
    working: float
    large_token: int
    pair_token: int
    requests: int

    @property
    def cache(self) -> float:
        """What is left for the KV cache; negative where the rest doesn't fit."""
        return self.available - self.large - self.small - self.adapters - self.working

    @property
    def tokens(self) -> int:
        return cached_tokens(self.cache, self.large_token + self.pair_token)

    @property
    def plain_tokens(self) -> int:
        """What plain vLLM would hold with the large model alone, as far as its working memory is the same."""
        return cached_tokens(self.cache + self.small + self.adapters, self.large_token)


def cached_tokens(memory: float, token: int, block: int = BLOCK) -> int:
    """How many tokens of ``token`` bytes vLLM holds in so many bytes: whole blocks of ``block`` tokens."""
    return max(0, int(memory // (block * token))) * block


def slot_rank(rank: int) -> int:
    """Raises InvalidInput."""
    found = next((each for each in RANKS if each >= rank >= 1), None)
    if found is None:
        raise InvalidInput("max_rank", rank, f"1 to {RANKS[-1]}")
    return found


def token_bytes(model: ModelSize, dtype: str, gpus: int, lanes: int = 1) -> int:
    """Bytes on one GPU of what one token leaves in the KV cache; where heads are fewer than GPUs, several hold each."""
    return lanes * max(1, model.kv_split // gpus) * (model.kv_values // model.kv_split) * DTYPES[dtype]


def plan_memory(pair: Pair, gpu_memory: float, gpus: int) -> Memory:
    """gpu_memory: GiB of each. Raises InvalidInput for a number of GPUs that can't share the models."""
    for field, model in (("model", pair.large), ("small_model", pair.small)):
        if model.heads % gpus:
            raise InvalidInput("gpus", gpus, f"a divisor of the {model.heads} attention heads of {field}")
        if model.kv_split % gpus and gpus % model.kv_split:
            raise InvalidInput("gpus", gpus, f"a divisor or a multiple of the {model.kv_split} key heads of {field}")
    tokens, requests = step_limits(gpu_memory)
    return Memory(
        available=gpu_memory * UTILIZATION * GIB,
        large=pair.weights(pair.large, pair.large_bytes) / gpus,
        small=pair.lane_weights * pair.weights(pair.small, pair.small_bytes) / gpus,
        adapters=pair.adapters / gpus,
        working=_working(pair, tokens, requests),
        large_token=token_bytes(pair.large, pair.dtype, gpus),
        pair_token=token_bytes(pair.small, pair.dtype, gpus, pair.lanes),
        requests=requests,
    )


def step_limits(gpu_memory: float) -> tuple[int, int]:
    """Tokens and requests of a step where a server is told nothing else: vLLM's choice (0.32), but for an A100."""
    if gpu_memory >= 160:
        return 16384, 1024
    return (8192, 1024) if gpu_memory >= 70 else (2048, 256)


def _working(pair: Pair, tokens: int, requests: int) -> float:
    """Activations of a full step, four tensors as wide as the widest layer, and eight of the logits in 32 bits."""
    activations = 4 * DTYPES[pair.dtype] * tokens * (pair.large.widest + pair.lanes * pair.small.widest)
    return BASE + activations + 8 * 4 * requests * pair.large.vocabulary
