"""Whether the time of a refusal tells a client which modules and models there are.

    PYTHONPATH=tests python tests/benchmarks/timing.py --out tests/benchmarks/results/timing.md

A client whose key may use one model asks over HTTP, one request after the other, for names that mean nothing, for
models that other clients have, and for modules. Every name is refused with the same words. Each kind is compared with
names of its length that mean nothing: how often a refusal took longer than one of those (AUC; a half tells nothing).
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import httpx
import yaml
from scipy.stats import mannwhitneyu

from kit import build_kit
from lethe_server.auth import key_digest
from lethe_server.bench.machine import listed
from server_process import serving

KEY = "limited-key"
WARMUP = 200  # requests
NOTHING, NO_MODULE, LONGER = "nothing", "no module", "no module, a longer name"
BESIDE = {  # kinds of names, and what each is compared with
    NOTHING: NOTHING,
    "nothing, again": NOTHING,
    "another client's model, its module in the engine": NOTHING,
    "another client's model, its module not in the engine": NOTHING,
    NO_MODULE: NO_MODULE,
    "a module in the engine": NO_MODULE,
    LONGER: LONGER,
    "a module not in the engine": LONGER,
}


def server_arguments(folder: Path, modules: dict[str, Path]) -> list[str]:
    """Three modules and routes, room for two of the modules, and a key for one of the routes."""
    entry = {"name": "shop", "role": "client", "models": ["open"], "hash": f"sha256:{key_digest(KEY).hex()}"}
    keys = folder / "keys.yaml"
    keys.write_text(yaml.safe_dump({"keys": [entry]}))
    keys.chmod(0o600)
    arguments = ["--keys-file", str(keys), "--max-resident-modules", "2"]
    for route, (name, path) in zip(("open", "shut", "away"), modules.items(), strict=True):
        arguments += ["--module", str(path), "--route", f"{route}={name}"]
    return arguments


def measure(url: str, names: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Microseconds of every refusal, by kind; kinds take turns in a random order."""
    draw = random.Random(0)
    found: dict[str, list[float]] = {kind: [] for kind in names}
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as http:
        for number in range(-WARMUP, rounds):
            for kind in draw.sample(list(names), len(names)):
                body = {"model": draw.choice(names[kind]), "prompt": "Where was Marta born?", "max_tokens": 4}
                started = time.perf_counter()
                status = http.post("/v1/completions", json=body).status_code
                seconds = time.perf_counter() - started
                if status != 404:
                    raise SystemExit(f"{kind}: {body['model']} was answered with {status}")
                if number >= 0:
                    found[kind].append(1e6 * seconds)
    return found


def report(found: dict[str, list[float]]) -> str:
    lines = ["# What the time of a refusal tells", ""]
    lines += listed()
    lines += ["", "    PYTHONPATH=tests python tests/benchmarks/timing.py --out tests/benchmarks/results/timing.md", ""]
    lines += [f"{len(found[NOTHING])} refusals of each kind, taking turns.", ""]
    lines += ["| asked for | median, us | compared with | ratio | AUC | p |", "|---|---:|---|---:|---:|---:|"]
    for kind, times in found.items():
        plain = found[BESIDE[kind]]
        test, middle = mannwhitneyu(times, plain), statistics.median(times)
        ratio, auc = middle / statistics.median(plain), test.statistic / (len(times) * len(plain))
        lines.append(f"| {kind} | {middle:.0f} | {BESIDE[kind]} | {ratio:.3f} | {auc:.3f} | {test.pvalue:.2g} |")
    return "\n".join(lines) + "\n"


def stranger(ref: str) -> str:
    """A reference of the same name and length that means nothing."""
    name, digest = ref.split(":")
    return f"{name}:{digest[::-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        kit = build_kit(folder / "kit")
        modules = {name: module.path for name, module in kit.modules.items()}
        refs = [module.ref for module in kit.modules.values()]
        here, away = refs[0], refs[2]
        names = [["none"], ["null"], ["shut"], ["away"], [stranger(here)], [here], [stranger(away)], [away]]
        with serving(folder, kit, server_arguments(folder, modules), cold=True) as server:
            text = report(measure(server.url, dict(zip(BESIDE, names, strict=True)), chosen.rounds))
    print(text)
    if chosen.out:
        chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
