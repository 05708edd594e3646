"""What the server says to every worker process, through vLLM's ``collective_rpc``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lethe_offsets.pair import Rule
from lethe_server.engine.adapters import SlotRule


class RuleKeeper:
    """Mixed into vLLM's worker class; method names carry our prefix because they share its namespace."""

    model_runner: Any

    def lethe_register_rule(self, adapter_id: int, rule: dict[str, Any], plus_rank: int) -> None:
        self.model_runner.get_model().register_rule(adapter_id, SlotRule(Rule(**rule), plus_rank))

    def lethe_forget_rule(self, adapter_id: int) -> None:
        self.model_runner.get_model().forget_rule(adapter_id)

    def lethe_warm_up(self) -> None:
        """Compile both models now; on the CPU vLLM does not before it serves, if the engine has adapters."""
        self.model_runner.profile_run()


def rule_arguments(adapter_id: int, rule: Rule, plus_rank: int) -> tuple[int, dict[str, Any], int]:
    """Arguments of ``lethe_register_rule`` as plain values: they cross a process boundary."""
    return adapter_id, asdict(rule), plus_rank
