"""Inner products of layer inputs: what the regression merge needs of a forget set once the set is gone.

They lie beside the module, in ``<module>.gram.safetensors``: for each lane and adapted layer the matrix ``X^T X`` of
the layer's inputs over the forget set, float32, 4 bytes times the square of the layer's width. They are second moments
of activations, not text; but whoever holds them can test which of several texts they were taken from. Guard them as the
forget set was guarded, or delete them once merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lethe_offsets.digests import small_model_digest
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.manifest import Lane
from lethe_offsets.merging.agreement import check_one_small_model
from lethe_offsets.module import Module
from lethe_offsets.training.data import read_examples
from lethe_offsets.training.progress import Report, silent
from lethe_offsets.training.reference import load_lane, load_tokenizer
from lethe_offsets.writing import replacing

SUFFIX = ".gram.safetensors"


def inputs_file(module: Module) -> Path:
    """Where a module's inner products lie: beside its directory."""
    return module.path.with_name(f"{module.path.name}{SUFFIX}")


def collect_inputs(
    module: Module, small_model: str | Path, forget_set: str | Path, max_length: int = 1024, report: Report = silent
) -> Path:
    """Run each lane over the forget set, write the inner products beside the module and return the file.

    All tokens count, prompts too. Raises InvalidInput for data or a place that can't be written, ModuleIncompatible
    for another small model; what lies there already is only replaced by a whole file.
    """
    check_one_small_model(module)
    if small_model_digest(small_model) != module.manifest.small_model.digest:
        raise ModuleIncompatible("small_model", str(small_model), f"{module.manifest.small_model.id}, of {module.ref}")
    examples = read_examples(forget_set, load_tokenizer(small_model), "forget", max_length)
    tensors: dict[str, Tensor] = {}
    for lane, adapter in module.adapters().items():
        model = cast(PeftModel, load_lane(small_model, module.lanes[lane]))
        base = model.get_base_model()
        layers = {_key(lane, layer): base.get_submodule(layer) for layer in adapter.pairs}
        with torch.inference_mode(), _recorded(layers, tensors):
            for done, example in enumerate(examples, start=1):
                model(input_ids=torch.tensor([example.ids]), use_cache=False)
                report(f"inputs, {lane} lane", done, len(examples))
    return _save(tensors, inputs_file(module), module)


def read_inputs(module: Module, lane: Lane, layer: str, width: int) -> Tensor:
    """The inner products [width, width] of one layer. Raises InvalidInput when they are missing or another module's."""
    path = inputs_file(module)
    how = f"lethe module inputs {module.path} --small-model ... --forget ... makes it"
    if not path.is_file():
        raise InvalidInput("inputs", str(path), f"a file of inner products; {how}")
    try:
        with safe_open(path, framework="pt") as file:
            recorded = (file.metadata() or {}).get("module")
            if recorded != module.digest:
                raise InvalidInput(f"{path}: module", recorded, f"{module.digest}; {how}")
            products: Tensor = file.get_tensor(_key(lane, layer))
    except SafetensorError as err:
        raise InvalidInput(f"{path}: {_key(lane, layer)}", str(err), f"inner products; {how}") from err
    if products.shape != (width, width) or not products.isfinite().all():
        raise InvalidInput(
            f"{path}: {_key(lane, layer)}", list(products.shape), f"finite numbers [{width}, {width}]; {how}"
        )
    return products


@contextmanager
def _recorded(layers: dict[str, nn.Module], sums: dict[str, Tensor]) -> Iterator[None]:
    """Adds every input of ``layers`` to ``sums``."""
    hooks = [layer.register_forward_pre_hook(partial(_add, sums, key)) for key, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _add(sums: dict[str, Tensor], key: str, layer: nn.Module, arguments: Sequence[Any]) -> None:
    inputs = arguments[0].flatten(0, -2).float()
    product = inputs.T @ inputs
    sums[key] = sums[key] + product if key in sums else product


def _key(lane: Lane, layer: str) -> str:
    return f"{lane}.{layer}"


def _save(tensors: dict[str, Tensor], path: Path, module: Module) -> Path:
    with replacing(path, "inputs") as draft:
        save_file(tensors, draft, metadata={"module": module.digest})
    return path
