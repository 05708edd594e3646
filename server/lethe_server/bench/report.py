"""A run's results as tables: on the terminal and as markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich import box
from rich.table import Table

from lethe_server.bench.goals import Goal
from lethe_server.bench.profile import as_markdown
from lethe_server.bench.settings import BenchSettings
from lethe_server.bench.store import Store
from lethe_server.bench.summary import LETHE, Row, pair_share

COLUMNS = (
    *("large:small", "clients", "prompt", "system", "tokens/s", "±", "first p50", "first p99", "next p50", "next p99"),
    *("tokens/s to plain", "step to plain", "bound", "of the bound", "cold bound", "of the cold bound"),
    *("first of its bound", "pair's share"),
)
SHOWN = [COLUMNS.index(name) for name in ("large:small", "clients", "prompt", "system", "tokens/s", "first p50")]
SHOWN += [COLUMNS.index(name) for name in ("next p50", "tokens/s to plain", "of the bound", "of the cold bound")]
MEMORY_NOTE = "Memory is the process tree's proportional set size; every server's KV cache holds as many tokens."
EXPLAINED = """\
tokens/s: output tokens over the whole time, reading the prompts included. ±: spread of the turns. first: ms to the
first token; next: ms from one token to the next. A ratio is the median of the turns', each to plain's turn just
before. Step: one decode step with every client's request in it, the median of the waves of requests; its bound is
plain's step over the sum of that and one plain forward of the small model over twice the rows. A small model that runs
alone finds its weights in the processor's caches from one step to the next, and beside a large one it doesn't: for the
cold bound as many bytes as the large model's weights have are read before each of its steps. The bound of the first
token is plain's time, longer by the small model's share of reading the prompts twice. Processor: plain vLLM with the
pair in a sampling-time logits processor, two Hugging Face models with caches inside the engine process. HF loop: three
Hugging Face models with caches in a loop over one batch, without a server.
"""


def cells_of(row: Row, store: Store) -> list[str]:
    m = row.measured
    share = pair_share(store, row.ratio, row.cell) if row.system == LETHE else None
    times = (m.first_p50, m.first_p99, m.next_p50, m.next_p99)
    bounds = (row.bound, row.of_bound, row.cold_bound, row.of_cold_bound)
    ratios = (row.to_plain, row.step_to_plain, *bounds, row.first_of_bound, share)
    return [
        f"{row.ratio}:1",
        str(row.cell.concurrency),
        str(row.cell.prompt),
        row.system,
        f"{m.tokens_per_s:.1f}",
        f"{row.spread:.0%}",
        *(f"{1e3 * seconds:.1f}" for seconds in times),
        *("" if value is None else f"{value:.3f}" for value in ratios),
    ]


def as_table(rows: Sequence[Row], store: Store) -> Table:
    """For a terminal: the columns of ``table.md`` that fit one."""
    table = Table(*(COLUMNS[i] for i in SHOWN), box=box.SIMPLE)
    for row in rows:
        cells = cells_of(row, store)
        table.add_row(*(cells[i] for i in SHOWN))
    return table


def goals_table(goals: Sequence[Goal]) -> Table:
    table = Table("goal", "measured", "", box=box.SIMPLE)
    for goal in goals:
        table.add_row(goal.text, goal.measured or "", goal.verdict)
    return table


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write(
    out: Path, command: str, settings: BenchSettings, rows: Sequence[Row], goals: Sequence[Goal], store: Store
) -> None:
    """``table.md``, ``goals.md`` and, where there is one, ``profile.md`` in ``out``."""
    machine: Mapping[str, str] = store.header["machine"]
    head = f"`{command}`\n\n" + "".join(f"- {name}: {value}\n" for name, value in machine.items()) + "\n"
    warning = (
        "The models are tiny: these numbers show that it runs, and nothing about speed.\n\n" if settings.tiny else ""
    )
    cells = markdown(COLUMNS, [cells_of(row, store) for row in rows])
    parts = [head, warning, EXPLAINED, "\n", cells, "\n", _other(store)]
    (out / "table.md").write_text("# What the offset costs\n\n" + "".join(parts), encoding="utf-8")
    judged = markdown(("goal", "measured", ""), [(g.text, g.measured or "", g.verdict) for g in goals])
    (out / "goals.md").write_text(f"# Goals\n\n{head}{warning}{judged}", encoding="utf-8")
    for key in store.keys("profile"):
        title = (
            f"One decode step of Lethe's engine at {key.ratio}:1, {key.concurrency} requests after {key.prompt} tokens"
        )
        text = as_markdown(store.get(key), title)
        (out / "profile.md").write_text(f"# Where a decode step's time goes\n\n{head}{warning}{text}", encoding="utf-8")


def _other(store: Store) -> str:
    """Memory, starts and mixed modules."""
    memory = [
        (f"{key.ratio}:1", key.system, *("" if mib is None else f"{mib:.0f}" for mib in store.get(key).values()))
        for key in store.keys("memory")
    ]
    starts = [(f"{key.ratio}:1", key.system, f"{store.get(key):.1f}") for key in store.keys("start")]
    modules = [
        (key.system, str(key.concurrency), f"{store.get(key)['tokens_per_s']:.1f}") for key in store.keys("modules")
    ]
    tables = (
        (f"{MEMORY_NOTE}\n\n", ("large:small", "system", "host MiB", "device MiB"), memory),
        ("Starts, with compiled code found:\n\n", ("large:small", "system", "seconds to the first answer"), starts),
        (
            "One server, one module for all clients or another for each:\n\n",
            ("modules", "clients", "tokens/s"),
            modules,
        ),
    )
    return "\n".join(text + markdown(header, lines) for text, header, lines in tables if lines)
