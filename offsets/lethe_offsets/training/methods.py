"""The methods by name, each with its settings in a flat YAML file: ``methods/<name>.yaml``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from lethe_offsets.errors import InvalidInput
from lethe_offsets.training import objectives
from lethe_offsets.training.config import TrainingConfig
from lethe_offsets.training.knobs import configure, knobs
from lethe_offsets.training.objectives import Objective

OBJECTIVES: dict[str, type[Objective]] = {
    "grad_ascent": objectives.GradientAscent,
    "grad_diff": objectives.GradientAscent,
    "kl_min": objectives.GradientAscent,
    "idk": objectives.IDK,
    "dpo": objectives.DPO,
    "npo": objectives.NPO,
    "simnpo": objectives.SimNPO,
    "me_gd": objectives.MaxEntropy,
    "idk_ap": objectives.IDK,
    "undial": objectives.Undial,
    "retain_forget_pair": objectives.RetainForgetPair,
    "uld": objectives.ULD,
}
METHODS = tuple(OBJECTIVES)
DEFAULT_METHOD = "npo"
RETAIN_TERMS: dict[str, type[Objective] | None] = {
    "none": None,
    "kl": objectives.KL,
    "cross_entropy": objectives.CrossEntropy,
    "answer_preservation": objectives.AnswerPreservation,
    "uniform": objectives.Uniform,
}


def load_method(
    method: str | None, path: Path | None = None, overrides: Mapping[str, object] | None = None
) -> TrainingConfig:
    """The settings of a method: its own, then those of the flat YAML file at ``path``, then ``overrides``.

    The file may name the method, too; named nowhere, it is ``DEFAULT_METHOD``. Raises InvalidInput for an unknown
    method, a file that can't be read, and, all of them together, for knobs that the method doesn't take and values that
    don't fit.
    """
    given = _read_flat(path) if path else {}
    named = given.pop("method", None)
    method = _checked(str(method or named or DEFAULT_METHOD))
    if named not in (None, method):
        raise InvalidInput("method", named, f"{method} in {path} too, or none there")
    given |= overrides or {}
    settings = default_settings(method)
    own, retain = settings["retain"], str(given.get("retain", settings["retain"]) or "none")
    problems = []
    if retain not in RETAIN_TERMS:
        problems.append(f"retain: got {retain!r}{_meant(retain, RETAIN_TERMS)}, known: {', '.join(RETAIN_TERMS)}")
        retain = own
    if retain != own:  # the values of a term say nothing about another one
        old = knobs(OBJECTIVES[method], RETAIN_TERMS[own])
        settings = {key: settings[key] for key, place in old.items() if place[0] != "retain"}
    takes = knobs(OBJECTIVES[method], RETAIN_TERMS[retain])
    unknown = [f"{key}{_meant(key, takes)}" for key in given if key not in takes]
    if unknown:
        problems.append(f"no knob of {method}: {', '.join(unknown)}; its knobs: {', '.join(takes)}")
    settings |= given | {"retain": retain}
    config, refused = configure(
        OBJECTIVES[method], {takes[key]: value for key, value in settings.items() if key in takes}
    )
    if config is None or problems:
        source = str(path or "the command line")
        raise InvalidInput(f"settings of {method}", source, "; ".join([*problems, *refused]))
    return config


def default_settings(method: str) -> dict[str, Any]:
    """The knobs of a method with its own values, as its file has them."""
    text = (files("lethe_offsets.training") / "methods" / f"{method}.yaml").read_text(encoding="utf-8")
    settings = dict(yaml.safe_load(text))
    settings.pop("method")
    return settings


def _read_flat(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file of one level. Raises InvalidInput for any other file."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as err:
        raise InvalidInput("config", str(path), f"a readable YAML file ({str(err).splitlines()[0]})") from err
    if not isinstance(content, dict):
        raise InvalidInput("config", str(path), "lines of the form 'knob: value'")
    nested = [str(key) for key, value in content.items() if isinstance(value, dict | list)]
    if nested:
        raise InvalidInput("config", str(path), f"one level; not so: {', '.join(nested)}")
    return {str(key): value for key, value in content.items()}


def _checked(method: str) -> str:
    if method not in METHODS:
        raise InvalidInput("method", f"{method}{_meant(method, METHODS)}", ", ".join(METHODS))
    return method


def _meant(given: str, accepted: Collection[str]) -> str:
    """Which of ``accepted`` it probably was, in brackets."""
    close = get_close_matches(given.lower(), accepted, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
