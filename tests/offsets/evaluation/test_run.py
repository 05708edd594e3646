"""Metrics of several models: order, what is left out, and going on after an interruption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

import tiny
from lethe_offsets.errors import InvalidInput, LetheError
from lethe_offsets.evaluation.metrics import Metric, NotApplicable, Result, Settings, World, all_metrics, chosen
from lethe_offsets.evaluation.run import Evaluation
from lethe_offsets.evaluation.sets import Sets
from lethe_offsets.evaluation.tofu import TOFU
from lethe_offsets.evaluation.tofu.data import read_tofu
from lethe_offsets.evaluation.tofu.reference import Reference
from lethe_offsets.evaluation.work import Work
from tables import Table, question
from tiny_tofu import build_tofu

SETS = Sets((question("A?", "asked"),))


class Everything(dict[str, str]):
    """The same for every key."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __missing__(self, key: str) -> object:
        return self.value


@dataclass(frozen=True)
class Counted:
    """A metric that scores the first answer, or fails."""

    name: str
    needs: frozenset[str] = frozenset()
    group: str = "counted"
    failure: LetheError | None = None

    def run(self, world: World) -> Result:
        world.score(world.pairs(world.sets.forget))
        if self.failure is not None:
            raise self.failure
        return Result({"seed": float(world.settings.seed)}, [{"reads": sorted(world.results)}])


def table(name: str = "module", identity: str = "table") -> Table:
    return Table(tiny.tokenizer(), {"asked": [0.5]}, name=name, identity=identity)


def test_a_finished_metric_is_not_measured_again(tmp_path: Path) -> None:
    broken = Counted("second", failure=LetheError("the server is gone"))
    first = table()
    with pytest.raises(LetheError, match="the server is gone"):
        Evaluation({"module": first}, SETS, [Counted("first"), broken]).run(Work(tmp_path))

    again = table()
    found = Evaluation({"module": again}, SETS, [Counted("first")]).run(Work(tmp_path))
    assert found["module"].summary == {"first": {"seed": 0.0}}
    assert again.asked == []


@pytest.mark.parametrize("change", ["model", "data", "settings"])
def test_what_was_measured_of_something_else_is_measured_again(change: str, tmp_path: Path) -> None:
    Evaluation({"module": table()}, SETS, [Counted("first")]).run(Work(tmp_path))
    other = table(identity="other" if change == "model" else "table")
    sets = Sets((question("B?", "asked"),)) if change == "data" else SETS
    settings = Settings(seed=1 if change == "settings" else 0)
    Evaluation({"module": other}, sets, [Counted("first")], settings).run(Work(tmp_path))
    assert len(other.asked) == 1


def test_what_was_measured_of_the_target_by_the_module_is_measured_again_with_another(tmp_path: Path) -> None:
    metrics = [Counted("first"), Counted("second", frozenset({"module"}))]
    for identity, asked in (("one", 1), ("one", 0), ("two", 1)):
        target = table("target", "target")
        Evaluation({"module": table(identity=identity), "target": target}, SETS, metrics).run(Work(tmp_path))
        assert len(target.asked) == asked


def test_a_damaged_file_is_measured_again(tmp_path: Path) -> None:
    Evaluation({"module": table()}, SETS, [Counted("first")]).run(Work(tmp_path))
    (file,) = tmp_path.rglob("*.json")
    file.write_text("{")
    other = table()
    Evaluation({"module": other}, SETS, [Counted("first")]).run(Work(tmp_path))
    assert len(other.asked) == 1


def test_metrics_that_ask_the_same_ask_once(tmp_path: Path) -> None:
    model = table()
    Evaluation({"module": model}, SETS, [Counted("first"), Counted("second")]).run(Work(tmp_path))
    assert len(model.asked) == 1


def test_what_lacks_something_is_left_out_with_the_reason_and_so_is_what_needs_it(tmp_path: Path) -> None:
    metrics: list[Metric] = [
        Counted("first", frozenset({"reference", "holdout"})),
        Counted("second", frozenset({"first"})),
        Counted("third", failure=NotApplicable("a table has no weights")),
        Counted("fourth"),
    ]
    found = Evaluation({"module": table()}, SETS, metrics).run(Work(tmp_path))["module"]
    assert list(found.summary) == ["fourth"]
    assert found.left_out == {
        "first": "needs records that no model has seen (--holdout or --tofu); "
        "a retain model's truth ratios (--reference)",
        "second": "needs first, which is left out",
        "third": "a table has no weights",
    }


def test_a_metric_reads_the_results_of_others_of_the_same_model(tmp_path: Path) -> None:
    models = {"module": table(), "target": table("target", "target")}
    metrics: list[Metric] = [Counted("first"), Counted("second", frozenset({"first", "target"}))]
    found = Evaluation(models, SETS, metrics).run(Work(tmp_path))
    assert list(found) == ["target", "module"]
    assert found["module"].items["second"] == [{"reads": ["first"]}]


def test_without_a_reference_forget_quality_and_without_perturbed_answers_the_aggregate_are_left_out(
    tmp_path: Path,
) -> None:
    model = Table(tiny.tokenizer(), Everything([0.5]), {"": "asked"})  # type: ignore[arg-type]
    own = Evaluation({"module": model}, SETS, TOFU).run(Work(tmp_path))["module"]
    assert own.summary == {"probability": {"forget": pytest.approx(0.5)}, "rouge": {"forget": 1.0}}
    assert set(own.left_out) == {"truth_ratio", "model_utility", "forget_quality"}
    tofu = read_tofu(build_tofu(tmp_path / "tofu"), "forget10")
    full = Evaluation({"module": model}, tofu, TOFU).run(Work(tmp_path))["module"]
    assert full.left_out == {"forget_quality": "needs a retain model's truth ratios (--reference)"}


def test_a_retrained_model_is_a_reference(tmp_path: Path) -> None:
    def model(name: str, p: float) -> Table:
        return Table(tiny.tokenizer(), Everything([p]), {"": "x"}, name, name)  # type: ignore[arg-type]

    tofu = read_tofu(build_tofu(tmp_path / "tofu"), "forget10")
    models = {"module": model("module", 0.5), "retrained": model("retrained", 0.5)}
    found = Evaluation(models, tofu, TOFU).run(Work(tmp_path))
    assert found["module"].summary["forget_quality"] == {"forget_quality": 1.0, "statistic": 0.0}


def test_a_reference_of_other_data_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    model = table()
    reference = Reference(split="forget10", data="other", model="m", log_truth_ratios=(0.0,))
    with pytest.raises(InvalidInput, match="reference"):
        Evaluation({"module": model}, SETS, TOFU, reference=reference).run(Work(tmp_path))
    assert model.asked == []


def test_metrics_are_chosen_by_name_or_group_with_what_they_need() -> None:
    def names(text: str) -> list[str]:
        return [metric.name for metric in chosen(text, TOFU)]

    assert names("tofu") == [metric.name for metric in TOFU]
    assert names("forget_quality") == ["truth_ratio", "forget_quality"]
    assert names("model_utility, rouge") == ["probability", "rouge", "truth_ratio", "model_utility"]
    with pytest.raises(InvalidInput, match=r"metrics: got 'bleu'; accepted: .*rouge"):
        chosen("rouge,bleu", TOFU)


def test_every_metric_comes_after_those_that_it_needs() -> None:
    seen: set[str] = set()
    metrics = all_metrics()
    names = {metric.name for metric in metrics}
    assert len(names) == len(metrics)
    for metric in metrics:
        assert metric.needs & names <= seen, metric.name
        seen.add(metric.name)
