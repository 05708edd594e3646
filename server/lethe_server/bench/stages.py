"""The stages of a run; each skips what the store already holds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lethe_offsets.errors import LetheError
from lethe_server.bench import servers, steps
from lethe_server.bench.load import run_load, waves_of
from lethe_server.bench.measurement import Measurement
from lethe_server.bench.memory import memory
from lethe_server.bench.models import Models, mixed_ratio, module_name
from lethe_server.bench.process import log_end, spawned
from lethe_server.bench.settings import BenchSettings, Cell
from lethe_server.bench.shapes import context, small_shape
from lethe_server.bench.store import Key, Store
from lethe_server.bench.summary import LETHE, LOOP, PLAIN, PROCESSOR

Waves = Sequence[Sequence[list[int]]]
System = Callable[[Waves], Measurement]
WARM_UP_SEED = 999
QUIET_S = 1.5  # for a second after its last message a process of vLLM's spins, on the core that the next one needs


@dataclass(frozen=True)
class Run:
    """What every stage works with. say: tells the person what is being measured."""

    settings: BenchSettings
    models: Models
    store: Store
    work: Path
    say: Callable[[str], None]

    @property
    def cache(self) -> Path:
        return self.work / "compiled"

    def log(self, name: str) -> Path:
        return self.work / "logs" / f"{name.replace(' ', '-')}.txt"

    def waves(self, cell: Cell, seed: int) -> list[list[list[int]]]:
        return waves_of(cell, self.settings.large.vocabulary, seed, self.settings.output_tokens)

    def command(self, system: str, ratio: int) -> list[str]:
        pair = self.models.pairs[ratio]
        if system == PLAIN:
            return servers.plain_command(self.settings, self.models.large)
        if system == PROCESSOR:
            return servers.processor_command(self.settings, self.models.large, pair)
        return servers.lethe_command(self.settings, ratio, self.models.large, pair)


def time_engines(run: Run) -> None:
    """The large model alone, each small one alone over twice the rows, and each pair inside Lethe's engine."""
    cells = tuple(run.settings.cells())
    twice = tuple(Cell(2 * cell.concurrency, cell.prompt) for cell in cells)
    middle = sorted(run.settings.prompts)[len(run.settings.prompts) // 2]
    inside = tuple(
        cell for cell in cells if cell.prompt == middle
    )  # for the pair's share; all would take as long again
    _time(run, Key("steps", "large"), str(run.models.large), cells, cells)
    for ratio, pair in run.models.pairs.items():
        _time(run, Key("steps", "small", ratio), str(pair.small), cells, twice)
        profiled = None
        if run.settings.profile and ratio == mixed_ratio(run.settings):
            profiled = min(inside, key=lambda cell: abs(cell.concurrency - 16))
        module = (str(pair.small), str(pair.modules[0]))
        _time(run, Key("steps", LETHE, ratio), str(run.models.large), inside, inside, module, profiled)


def _time(
    run: Run,
    about: Key,
    model: str,
    cells: Sequence[Cell],
    sent: tuple[Cell, ...],
    pair: tuple[str, str] | None = None,
    profiled: Cell | None = None,
) -> None:
    """Store each cell's step times. sent: the cells as this engine gets them."""
    keys = [Key("steps", about.system, about.ratio, cell.concurrency, cell.prompt) for cell in cells]
    if all(key in run.store for key in keys):
        return
    name = f"steps {about.system} {about.ratio or ''}".strip()
    run.say(f"timing the engine's steps: {about.system}{f', {about.ratio}:1' if about.ratio else ''}")
    small, module = pair or (None, None)
    options = _options(run.settings, about)
    large = run.settings.large
    between = run.settings.number_bytes * large.read_numbers if about.system == "small" else 0
    order = steps.Order(model, options, sent, large.vocabulary, small, module, profiled, between)
    found = steps.time_steps(order, run.log(name).with_suffix(""), run.cache)
    for key, times in zip(keys, found["cells"], strict=True):
        run.store.add(key, times)
    if profiled is not None:
        key = Key("profile", LETHE, about.ratio, profiled.concurrency, profiled.prompt)
        run.store.add(key, found["profile"])


def _options(settings: BenchSettings, about: Key) -> dict[str, object]:
    """Engine options as the servers have them; the small model alone gets twice of everything."""
    factor = 2 if about.system == "small" else 1
    if about.system == "small":
        token = settings.number_bytes * small_shape(about.ratio, settings.tiny).kv_numbers
        cache = round(servers.SPARE * token * servers.kv_tokens(settings, 2))
    else:
        cache = servers.kv_bytes(settings, about.ratio or None)
    return {
        "dtype": settings.dtype,
        "max_model_len": context(settings.tiny),
        "max_num_seqs": factor * settings.max_requests,
        "max_num_batched_tokens": factor * servers.CHUNK,
        "kv_cache_memory_bytes": cache,
        "enable_prefix_caching": False,
        "enforce_eager": settings.eager,
    }


def measure_cells(run: Run, ratio: int) -> None:
    """All systems of one ratio, alive at the same time, taking turns in every cell; peers have the first one only."""
    turns = [
        (Key("cell", system, ratio, cell.concurrency, cell.prompt, number), cell)
        for cell in run.settings.cells()
        for number in range(run.settings.turns(cell))
        for system in (PLAIN, LETHE, *((PROCESSOR, LOOP) if number == 0 and run.settings.peers_run(cell) else ()))
    ]
    missing = [(key, cell) for key, cell in turns if key not in run.store]
    if not missing:
        return
    with ExitStack() as alive:
        systems: dict[str, System] = {}
        for name in dict.fromkeys(key.system for key, _ in missing):
            run.say(f"{ratio}:1, starting {name}")
            systems[name] = alive.enter_context(_loop(run, ratio) if name == LOOP else _server(run, name, ratio))
        for key, cell in missing:
            run.say(f"{ratio}:1, {cell.concurrency} x {cell.prompt} tokens, turn {key.turn + 1}: {key.system}")
            time.sleep(QUIET_S)
            run.store.add(key, systems[key.system](run.waves(cell, key.turn)).to_json())


@contextmanager
def _server(run: Run, name: str, ratio: int) -> Iterator[System]:
    log = run.log(f"{name} {ratio}")
    with servers.serving(run.command(name, ratio), servers.NAME, run.cache, log) as server:

        def ask(waves: Waves) -> Measurement:
            return run_load(server.url, [servers.NAME], waves, run.settings.output_tokens)

        fullest = Cell(max(run.settings.concurrency), min(run.settings.prompts))
        ask(run.waves(fullest, WARM_UP_SEED)[:1])
        run.store.add(Key("start", name, ratio), server.start_s)
        yield ask
        run.store.add(Key("memory", name, ratio), memory(server.pid))


@contextmanager
def _loop(run: Run, ratio: int) -> Iterator[System]:
    """The loop has no server: a process that is handed its prompts."""
    pair, log = run.models.pairs[ratio], run.log(f"{LOOP} {ratio}")
    models = map(str, (run.models.large, pair.small, pair.adapters[0]))
    command = [sys.executable, "-m", "lethe_server.bench.hf_loop", *models, run.settings.dtype]
    with spawned(command, run.cache, log, piped=True) as process:

        def ask(waves: Waves) -> Measurement:
            order = json.dumps({"waves": waves, "output_tokens": run.settings.output_tokens})
            print(order, file=process.stdin, flush=True)
            answer = process.stdout.readline() if process.stdout else ""
            if not answer:
                raise LetheError(f"the Hugging Face loop ended; {log} ends with:\n{log_end(log)}")
            return Measurement(**json.loads(answer))

        ask([[[2, 3, 4]]])
        yield ask
        run.store.add(Key("memory", LOOP, ratio), memory(process.pid))


def measure_modules(run: Run) -> None:
    """One server with all modules: every request on the same one, then each on another, in turns."""
    count, ratio = run.settings.modules, mixed_ratio(run.settings)
    cell = Cell(count, min(run.settings.prompts))
    names = {"one": [module_name(0)], "mixed": [module_name(i) for i in range(count)]}
    keys = [Key("modules", s, ratio, count, cell.prompt, n) for n in range(run.settings.turns(cell)) for s in names]
    if count < 2 or all(key in run.store for key in keys):
        return
    run.say(f"{ratio}:1, starting Lethe with {count} modules")
    command = servers.lethe_command(run.settings, ratio, run.models.large, run.models.pairs[ratio], count)
    with servers.serving(command, module_name(0), run.cache, run.log(f"modules {ratio}")) as server:
        run_load(server.url, names["mixed"], run.waves(cell, WARM_UP_SEED), run.settings.output_tokens)
        for key in keys:
            run.say(f"{ratio}:1, {count} modules, turn {key.turn + 1}: {key.system}")
            measured = run_load(server.url, names[key.system], run.waves(cell, key.turn), run.settings.output_tokens)
            run.store.add(key, measured.to_json())
        run.store.add(Key("memory", f"{LETHE}, {count} modules", ratio), memory(server.pid))
