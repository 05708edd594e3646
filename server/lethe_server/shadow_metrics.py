"""What comparisons with shadows are counted by."""

from __future__ import annotations

from collections.abc import Callable, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, astuple, dataclass
from enum import Enum

from prometheus_client import CollectorRegistry, Counter, Histogram

from lethe_server.state.declared import Modules

AGREEMENT_BUCKETS = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
DIVERGENCE_BUCKETS = (0.0, 0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # nats per token; below 0: likelier by shadow


@dataclass(frozen=True)
class Labels:
    """A public name, what answered for it, and its shadow; values come from the declared state only."""

    model: str
    module: str
    shadow: str


NAMES = tuple(Labels.__dataclass_fields__)


class Result(Enum):
    """How a comparison ended. dropped: as many as may were running already."""

    COMPARED = "compared"
    DROPPED = "dropped"
    FAILED = "failed"


class ShadowMetrics:
    """Metrics of comparisons on a registry of the caller's. computing: a block in which the engine computes."""

    def __init__(
        self, registry: CollectorRegistry, computing: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self.computing = computing
        self._shown: set[Labels] = set()
        self._comparisons = Counter(
            "lethe_shadow_comparisons_total",
            "Answers drawn for a comparison with a shadow, by how it ended.",
            [*NAMES, "result"],
            registry=registry,
        )
        self._agreement = Histogram(
            "lethe_shadow_agreement_ratio",
            "Share of an answer's tokens that the shadow finds most likely.",
            NAMES,
            buckets=AGREEMENT_BUCKETS,
            registry=registry,
        )
        self._divergence = Histogram(
            "lethe_shadow_divergence_nats",
            "Mean over an answer's tokens of their log-probability less that under the shadow.",
            NAMES,
            buckets=DIVERGENCE_BUCKETS,
            registry=registry,
        )

    def count(self, labels: Labels, result: Result) -> None:
        self._shown.add(labels)
        self._comparisons.labels(*astuple(labels), result.value).inc()

    def observe(self, labels: Labels, agreement: float, divergence: float) -> None:
        """A comparison that was made."""
        self._agreement.labels(*astuple(labels)).observe(agreement)
        self._divergence.labels(*astuple(labels)).observe(divergence)
        self.count(labels, Result.COMPARED)

    def keep(self, refs: Set[str]) -> None:
        """Remove the series of modules that are not among ``refs``."""
        names = {short((ref,)) for ref in refs} | {short(())}
        gone = {labels for labels in self._shown if not names.issuperset(f"{labels.module}+{labels.shadow}".split("+"))}
        for labels in gone:
            for family in (self._comparisons, self._agreement, self._divergence):
                family.remove_by_labels(asdict(labels))
        self._shown -= gone


def short(modules: Modules) -> str:
    """Names with eight digits of their digests, ``base`` for none: versions of one name are told apart."""
    return "+".join(f"{name}@{digest[:15]}" for name, _, digest in (ref.partition("@") for ref in modules)) or "base"
