"""What a forget module has to know about its small model, read without loading a weight."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from lethe_offsets import digests
from lethe_offsets.adapter import SUFFIX_A, SUFFIX_B, LaneAdapter, tensor_name
from lethe_offsets.errors import InvalidInput, ModuleIncompatible

NO_CONSTANTS = {"_name_or_path", "dtype", "torch_dtype", "transformers_version", "use_cache"}
SHOWN = 4  # layer names in a message


@dataclass(frozen=True, slots=True)
class SmallModelFacts:
    """digest and tokenizer_digest: ``sha256:<hex>``. vocab_size: width of its logits.

    linears: [out, in] of every linear layer by name, the head left out: both lanes share it. constants: what its config
    says of how it computes.
    """

    id: str
    digest: str
    tokenizer_digest: str
    vocab_size: int
    linears: dict[str, tuple[int, int]]
    constants: dict[str, object]

    @classmethod
    def read(cls, name_or_path: str | Path) -> SmallModelFacts:
        """The facts of a local directory or of a repository on the Hub; code in it is never run.

        Raises InvalidInput when it is no causal language model with a tokenizer and safetensors weights.
        """
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer  # seconds to import

        directory = digests.local_model(name_or_path, digests.MODEL_FILES + digests.TOKENIZER_FILES)
        digest = digests.small_model_digest(directory)
        try:
            config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as err:
            accepted = f"a causal language model with its tokenizer ({str(err).strip().splitlines()[0]})"
            raise InvalidInput("small_model", str(name_or_path), accepted) from err
        linears = {
            name: (layer.out_features, layer.in_features)
            for name, layer in model.named_modules()
            if isinstance(layer, torch.nn.Linear) and layer is not model.get_output_embeddings()
        }
        vocab_size = model.get_output_embeddings().weight.shape[0]
        constants = {name: value for name, value in config.to_dict().items() if name not in NO_CONSTANTS}
        return cls(str(name_or_path), digest, digests.tokenizer_digest(tokenizer), vocab_size, linears, constants)

    @classmethod
    def read_pair(
        cls, name_or_path: str | Path, plus: str | Path | None
    ) -> tuple[SmallModelFacts, SmallModelFacts | None]:
        """The facts of a small model, and of the plus lane's where it has weights of its own.

        Raises InvalidInput as ``read``, and for a plus lane's of another shape, vocabulary or set of constants.
        """
        own = cls.read(name_or_path)
        return own, None if plus is None else own.read_plus(plus)

    def read_plus(self, name_or_path: str | Path) -> SmallModelFacts:
        """The facts of a plus lane's own model beside this one. Raises as ``read_pair``."""
        try:
            other = type(self).read(name_or_path)
        except InvalidInput as err:
            raise InvalidInput("plus_model", err.value, err.accepted) from err
        theirs = other._shape()
        for name, ours in self._shape().items():
            if theirs[name] != ours:
                accepted = (
                    f"a model as {self.id} but for its weights; {name} is {theirs[name]!r} here and {ours!r} there"
                )
                raise InvalidInput("plus_model", str(name_or_path), accepted)
        return other

    def _shape(self) -> dict[str, object]:
        """Everything that both lanes must have in common."""
        return {**self.constants, "the tokenizer": self.tokenizer_digest}

    def check_fit(self, adapter: LaneAdapter, where: str) -> None:
        """Raises ModuleIncompatible for a tensor without its linear layer or of another shape than the layer."""
        for layer, pair in adapter.pairs.items():
            if layer not in self.linears:
                known = [*list(self.linears)[:SHOWN], "..."]
                accepted = f"a linear layer of {self.id}: {', '.join(known)}"
                raise ModuleIncompatible(f"{where}: {tensor_name(layer, SUFFIX_A)}", list(pair.a.shape), accepted)
            out_features, in_features = self.linears[layer]
            for suffix, tensor, shape in (
                (SUFFIX_A, pair.a, [pair.rank, in_features]),
                (SUFFIX_B, pair.b, [out_features, pair.rank]),
            ):
                if list(tensor.shape) != shape:
                    field = f"{where}: {tensor_name(layer, suffix)}"
                    raise ModuleIncompatible(field, list(tensor.shape), f"{shape}, to fit {self.id}")
