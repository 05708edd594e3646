"""What the server says to every worker process, through vLLM's ``collective_rpc``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

from lethe_offsets.pair import Rule
from lethe_server.engine.adapters import SlotRule
from lethe_server.engine.preparing import Preparing


class RuleKeeper:
    """Mixed into vLLM's worker class; method names carry our prefix because they share its namespace."""

    model_runner: Any

    @cached_property
    def lethe_preparing(self) -> Preparing:
        return Preparing(self.model_runner.lora_manager)

    def lethe_prepare(self, adapter_id: int, path: str) -> None:
        """Begin to read an adapter; ``add_lora`` then finds it in memory."""
        self.lethe_preparing.start(adapter_id, path)

    def lethe_prepared(self, adapter_id: int) -> bool:
        return self.lethe_preparing.done(adapter_id)

    def lethe_register_rule(self, adapter_id: int, rules: Sequence[dict[str, Any]], bounds: Sequence[int]) -> None:
        entry = SlotRule(tuple(Rule(**rule) for rule in rules), tuple(bounds))
        self.model_runner.get_model().register_rule(adapter_id, entry)

    def lethe_forget(self, adapter_id: int) -> None:
        """Forget an adapter's rule, and what was read of it in vain."""
        self.lethe_preparing.forget(adapter_id)
        self.model_runner.get_model().forget_rule(adapter_id)

    def lethe_count(self, adapter_id: int) -> None:
        """Count the rows of an adapter from now on; those of its probe have been ours."""
        self.model_runner.get_model().count_rows(adapter_id)

    def lethe_read(self) -> dict[str, Any]:
        """What was counted since the last call, see ``Reading``. The only place that waits for the device.

        Not prometheus-client's files for several processes: they would take a directory set before the first import,
        change vLLM's own metrics with it, and never let go of the series of a module that is gone.
        """
        counts: dict[str, Any] = self.model_runner.get_model().read_counts()
        return counts

    def lethe_replace_plus(self, model: str) -> None:
        """Let the plus lane run the model of that directory or hub name; the engine's loop waits meanwhile."""
        self.model_runner.get_model().replace_plus(model)

    def lethe_warm_up(self) -> None:
        """Compile both models now; on the CPU vLLM does not before it serves, if the engine has adapters."""
        self.model_runner.profile_run()


def rule_arguments(
    adapter_id: int, rules: Sequence[Rule], bounds: Sequence[int]
) -> tuple[int, list[dict[str, Any]], list[int]]:
    """Arguments of ``lethe_register_rule`` as plain values: they cross a process boundary."""
    return adapter_id, [asdict(rule) for rule in rules], list(bounds)
