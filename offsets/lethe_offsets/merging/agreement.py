"""Whether modules can be merged, and by which rule the result is applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from lethe_offsets.card import rule_in_words
from lethe_offsets.errors import InvalidInput, ModuleIncompatible
from lethe_offsets.module import Module
from lethe_offsets.pair import Rule


def check_mergeable(modules: Sequence[Module]) -> None:
    """Raises InvalidInput for fewer than two modules or one given twice, ModuleIncompatible for others of another kind.

    Modules go together when they were made for one small model and have the same lanes.
    """
    refs = [module.ref for module in modules]
    if len(set(refs)) < max(2, len(refs)):
        raise InvalidInput("modules", refs, "two or more, each of them once")
    for module in modules:
        check_one_small_model(module)
    _same(modules, "small model", lambda module: module.manifest.small_model.digest, "train the others again on one")
    _same(modules, "tokenizer", lambda module: module.manifest.tokenizer_digest, "train the others again with one")
    _same(modules, "lanes", lambda module: sorted(module.manifest.lanes), "serve the others by routes of their own")


def check_one_small_model(module: Module) -> None:
    """Raises ModuleIncompatible for a module whose lanes run two models."""
    if (own := module.manifest.plus_model) is not None:
        raise ModuleIncompatible("plus_model", own.id, f"none: both lanes run one small model, unlike {module.name}'s")


def choose_rule(modules: Sequence[Module], rule_from: Module | None = None, strength: float | None = None) -> Rule:
    """The rule of ``rule_from`` or the one that all modules have, with ``strength`` if given.

    Raises ModuleIncompatible when the rules differ in more than what is given.
    """
    rules = [rule_from.rule] if rule_from else [module.rule for module in modules]
    if strength is not None:
        try:
            rules = [dataclasses.replace(rule, strength=strength) for rule in rules]
        except ValueError as err:
            raise InvalidInput("strength", strength, str(err)) from err
    if len(set(rules)) > 1:
        shown = {module.name: rule_in_words(module.rule) for module in modules}
        raise ModuleIncompatible(
            "rule",
            shown,
            "modules of one rule; --rule-from takes one module's for all, --strength settles differing strengths",
        )
    return rules[0]


def _same(modules: Sequence[Module], what: str, of: Callable[[Module], object], otherwise: str) -> None:
    first, *others = modules
    for other in others:
        if of(other) != of(first):
            accepted = f"{of(first)}, that of {first.name}; {otherwise}"
            raise ModuleIncompatible(f"{other.name}: {what}", of(other), accepted)
