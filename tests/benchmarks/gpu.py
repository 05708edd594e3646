"""What the offset costs on one GPU: ``python tests/benchmarks/gpu.py --out DIR``.

Models have published shapes and dummy weights; nothing is downloaded. ``--tiny`` runs the same code on a CPU. Bytes
and operations come first, then predicted and measured side by side. Finished engines are kept: run it again to go on.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from gpu_predict import Device, predict
from gpu_shapes import PAIRS, TINY, Model, Pair
from rich.console import Console
from transformers import AutoConfig, AutoModelForCausalLM

from lethe_offsets.create import create_module
from lethe_server.bench.machine import listed
from lethe_server.bench.models import ADAPTER_RANK, random_adapter, word_tokenizer
from lethe_server.bench.process import log_end, spawned
from lethe_server.bench.report import markdown

SLOTS = 4  # the server's default
FULL = {"prompt": 512, "short": 8, "long": 136, "rounds": 3}
SMALL = {"prompt": 16, "short": 4, "long": 12, "rounds": 2}
GPU_OPTIONS = {"dtype": "bfloat16", "max_model_len": 1024, "enable_prefix_caching": False, "load_format": "dummy"}
CPU_OPTIONS = {**GPU_OPTIONS, "max_model_len": 128, "enforce_eager": True, "kv_cache_memory_bytes": 2**26}


def config_only(model: Model, path: Path) -> Path:
    """A model directory without weights: enough for an engine that makes its own."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(model.config(), indent=2), encoding="utf-8")
    word_tokenizer(model.vocabulary).save_pretrained(path)
    return path


def small_checkpoint(model: Model, path: Path) -> Path:
    """With weights of zero: a module is tied to its small model's files. The engine makes its own here too."""
    if not (path / "done").exists():
        config = AutoConfig.from_pretrained(config_only(model, path))
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        filled = empty.to_empty(device="cpu")
        for parameter in filled.parameters():
            torch.nn.init.zeros_(parameter)
        filled.save_pretrained(path)
        (path / "done").touch()
    return path


def build(pair: Pair, work: Path) -> dict[str, str]:
    large, small = config_only(pair.large, work / "large"), small_checkpoint(pair.small, work / "small")
    if not (work / "module").exists():
        random_adapter(small, work / "adapter", seed=1)
        create_module("bench", small, plus=work / "adapter", out=work / "module")
    return {"model": str(large), "small": str(small), "module": str(work / "module")}


def measured(pair: Pair, system: str, order: dict[str, Any], work: Path) -> dict[str, Any]:
    """The engine's numbers; measured once for the same order."""
    asked, result, log = (work / f"{system}.{kind}" for kind in ("order.json", "result.json", "log"))
    text = json.dumps(order)
    if not (result.exists() and asked.read_text(encoding="utf-8") == text):
        result.unlink(missing_ok=True)
        asked.write_text(text, encoding="utf-8")
        script = Path(__file__).with_name("gpu_engine.py")
        with spawned([sys.executable, str(script), str(asked), str(result)], work / "compiled", log) as process:
            if process.wait():
                raise SystemExit(f"{pair.name}, {system}: the engine failed; {log} ends with:\n{log_end(log)}")
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def predictions(pair: Pair, concurrency: list[int], context: int, device: Device) -> list[list[str]]:
    lines = []
    for rows in concurrency:
        found = predict(pair, rows, context, SLOTS, ADAPTER_RANK, device)
        gigabytes = (
            *(found.large.weights, found.large.cache, found.small.weights, found.small.cache),
            *(found.adapters, found.rules),
        )
        operations = (found.large.operations, found.small.operations)
        numbers = [*(f"{b / 1e9:.3g}" for b in gigabytes), *(f"{o / 1e12:.3g}" for o in operations)]
        lines.append([pair.name, str(rows), *numbers, f"{found.ratio(device):.3f}"])
    return lines


PREDICTED = (
    *("pair", "clients", "large weights GB", "large KV GB", "small weights GB", "lanes' KV GB", "adapters GB"),
    *("logits GB", "large Tflop", "pair Tflop", "predicted ratio"),
)
MEASURED = (
    *("pair", "clients", "plain step ms", "Lethe step ms", "predicted ratio", "measured ratio", "±", "goal", ""),
    *("plain tokens/s", "Lethe tokens/s"),
)


def compared(pair: Pair, predicted: list[list[str]], plain: dict[str, Any], lethe: dict[str, Any]) -> list[list[str]]:
    lines = []
    for line in predicted:
        ours, theirs = lethe["steps"][line[1]], plain["steps"][line[1]]
        ratio = theirs["step_s"] / ours["step_s"]
        steps = [f"{1e3 * each['step_s']:.3f}" for each in (theirs, ours)]
        speeds = [f"{each['tokens_per_s']:.0f}" for each in (theirs, ours)]
        verdict = [f"{pair.goal:.2f}", "met" if ratio >= pair.goal else "not met"]
        spread = f"{max(ours['spread'], theirs['spread']):.1%}"
        lines.append([*line[:2], *steps, line[-1], f"{ratio:.3f}", spread, *verdict, *speeds])
    return lines


def memory_lines(pair: Pair, engines: dict[str, dict[str, Any]]) -> list[list[str]]:
    def mib(value: float | None) -> str:
        return "" if value is None else f"{value:.0f}"

    return [
        [pair.name, system, f"{found['start_s']:.1f}", mib(found["host_mib"]), mib(found["device_mib"])]
        for system, found in engines.items()
    ]


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the table goes.")],
    work: Annotated[Path | None, typer.Option(metavar="DIR", help="Models and logs; default: OUT/work.")] = None,
    pairs: Annotated[str, typer.Option(help=f"Of {', '.join(PAIRS)}.")] = ",".join(PAIRS),
    concurrency: Annotated[str, typer.Option(help="Requests at the same time.")] = "1,8,32,128",
    bandwidth: Annotated[float, typer.Option(help="The GPU's memory, TB/s.")] = Device.bandwidth / 1e12,
    bf16: Annotated[float, typer.Option(help="Its bfloat16 arithmetic, dense, TFLOP/s.")] = Device.bf16 / 1e12,
    fp8: Annotated[float, typer.Option(help="Its FP8 arithmetic, dense, TFLOP/s.")] = Device.fp8 / 1e12,
    tiny: Annotated[bool, typer.Option("--tiny", help="Tiny shapes on the CPU: whether it runs.")] = False,
) -> None:
    """Decode steps of the large model alone and with its pair, predicted and measured, as a table."""
    chosen = [TINY] if tiny else [PAIRS[name] for name in pairs.split(",")]
    rows = [int(item) for item in concurrency.split(",")]
    lengths = SMALL if tiny else FULL
    device = Device(bandwidth * 1e12, bf16 * 1e12, fp8 * 1e12)
    context = lengths["prompt"] + lengths["long"] // 2
    predicted = {pair.name: predictions(pair, rows, context, device) for pair in chosen}
    console = Console(width=200, soft_wrap=True)
    table = markdown(PREDICTED, [line for lines in predicted.values() for line in lines])
    console.print(table)
    results, costs = [], []
    for pair in chosen:
        folder = (work or out / "work").resolve() / pair.name
        models = build(pair, folder)
        options = {**(CPU_OPTIONS if tiny else GPU_OPTIONS), "max_num_seqs": max(rows)}
        order = {**models, **lengths, "concurrency": rows, "vocabulary": pair.large.vocabulary, "options": options}
        plain = measured(pair, "plain", order | {"module": None}, folder)
        lethe = measured(pair, "lethe", order, folder)
        results += compared(pair, predicted[pair.name], plain, lethe)
        costs += memory_lines(pair, {"plain vLLM": plain, "Lethe": lethe})
    command = f"`python {shlex.join(sys.argv)}`\n\n" + "".join(f"{line}\n" for line in listed())
    notes = f"\nOne decode step of so many clients after prompts of {lengths['prompt']} tokens; dummy weights.\n\n"
    notes += f"VLLM_USE_V2_MODEL_RUNNER: {os.environ.get('VLLM_USE_V2_MODEL_RUNNER', 'left to vLLM')}\n\n"
    start = markdown(("pair", "system", "start s", "host MiB", "device MiB"), costs)
    text = "\n".join((f"# One GPU\n\n{command}{notes}{table}", markdown(MEASURED, results), start))
    out.mkdir(parents=True, exist_ok=True)
    (out / "gpu.md").write_text(text, encoding="utf-8")
    console.print(markdown(MEASURED, results), start, sep="\n")


if __name__ == "__main__":
    typer.run(main)
