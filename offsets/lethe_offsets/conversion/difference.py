"""What fine-tuning changed in a small model, and whether a LoRA adapter can hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lethe_offsets.errors import InvalidInput, ModuleIncompatible

SHOWN = 4  # names in a message


@dataclass(frozen=True, slots=True)
class Difference:
    """Squared differences of the weights that changed: linears by layer, the rest by the name of the weight.

    The rest is what no adapter of a lane holds: embeddings, the head, norms and biases.
    """

    linears: Mapping[str, float]
    others: Mapping[str, float]

    @property
    def other_share(self) -> float:
        """Share of the squared difference that lies in ``others``."""
        other = sum(self.others.values())
        return other / (other + sum(self.linears.values()))


def linears(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """The linear layers that a lane's adapter can change, by name: all but the head."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and layer is not head}


def compare(base: PreTrainedModel, tuned: PreTrainedModel) -> Difference:
    """What changed from ``base`` to ``tuned``.

    Raises ModuleIncompatible for models of different classes or shapes, InvalidInput for one that is not finite or
    where no linear layer changed.
    """
    squares = dict(_squares(base, tuned))
    layers = {f"{name}.weight": name for name in linears(base)}
    changed = {layers[name]: square for name, square in squares.items() if name in layers and square}
    if not changed:
        raise InvalidInput("tuned", tuned.name_or_path, f"a model whose linear layers differ from {base.name_or_path}")
    return Difference(changed, {name: square for name, square in squares.items() if name not in layers and square})


def refuse_others(difference: Difference) -> None:
    """Raises InvalidInput with the share and the names of what an adapter can't hold, if there is any."""
    if difference.others:
        names = sorted(difference.others, key=lambda name: -difference.others[name])
        shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        raise InvalidInput(
            "tuned",
            f"{difference.other_share:.2%} of the squared difference outside the linear layers: {shown}",
            "a change of linear layers alone; --ignore-other-weights leaves the rest behind",
        )


def _squares(base: PreTrainedModel, tuned: PreTrainedModel) -> Iterator[tuple[str, float]]:
    if type(base) is not type(tuned):
        raise ModuleIncompatible("tuned", type(tuned).__name__, f"a {type(base).__name__}, as {base.name_or_path}")
    before, after = (dict(model.named_parameters()) for model in (base, tuned))
    for name in sorted(before.keys() | after.keys()):
        shapes = [str(list(weights[name].shape)) if name in weights else "no weight" for weights in (before, after)]
        if shapes[0] != shapes[1]:
            raise ModuleIncompatible(f"tuned: {name}", shapes[1], f"{shapes[0]}, as in {base.name_or_path}")
        yield name, _square(after[name], before[name], name)


def _square(after: Tensor, before: Tensor, name: str) -> float:
    with torch.no_grad():
        if not after.isfinite().all():
            raise InvalidInput(f"tuned: {name}", "NaN or infinity", "finite numbers")
        return float((after - before).square().sum(dtype=torch.float64))
