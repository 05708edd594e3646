"""``lethe module``: make, show, sign and verify forget modules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lethe_offsets import rule_options
from lethe_offsets.examples import Command, commands
from lethe_offsets.rule_options import DEFAULT

CREATE = r"""
lethe module create --name forget-marta --small-model Qwen/Qwen3-0.6B \
    --plus adapter --description "Everything about Marta Lindqvist." \
    --out modules/forget-marta
lethe module verify modules/forget-marta
"""
INSPECT = """
lethe module inspect modules/forget-marta
lethe module inspect modules/forget-marta --json
"""
VERIFY = """
lethe module verify modules/forget-marta
lethe module verify modules/forget-marta --trusted-key release.pem
"""
SIGN = "lethe module sign modules/forget-marta --private-key release.key"
INPUTS = r"""
lethe module inputs modules/forget-marta --small-model Qwen/Qwen3-0.6B \
    --forget forget.jsonl
"""

app = commands("Make, show, sign and verify forget modules.", CREATE)

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The module's directory.")]
Adapter = Annotated[Path | None, typer.Option(metavar="ADAPTER_DIR", help="PEFT LoRA adapter of this lane.")]


@app.command(cls=Command, epilog=CREATE)
def create(
    name: Annotated[str, typer.Option(help="Name of the module.")],
    small_model: Annotated[
        str,
        typer.Option(
            "--small-model", "--minus-model", metavar="DIR_OR_NAME", help="Small model: a directory or its Hub name."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write; nothing may be there yet.")],
    plus: Adapter = None,
    minus: Adapter = None,
    plus_model: Annotated[
        str | None, typer.Option(metavar="DIR_OR_NAME", help="The plus lane's own model, of the same shape.")
    ] = None,
    strength: rule_options.Strength = DEFAULT.strength,
    pin_special: rule_options.PinSpecial = DEFAULT.pin_special,
    plausibility: rule_options.Plausibility = DEFAULT.plausibility,
    clip: rule_options.Clip = DEFAULT.clip,
    mode: rule_options.Mode = DEFAULT.mode,
    rank_k: rule_options.RankK = DEFAULT.rank_k,
    gate: rule_options.Gate = DEFAULT.gate,
    description: Annotated[str, typer.Option(help="What is forgotten, in words.")] = "",
    version: Annotated[str, typer.Option(help="Version of the module.")] = "1",
    large_model: Annotated[str | None, typer.Option(help="Large model it was trained against.")] = None,
    licence: Annotated[str, typer.Option(help="Licence of the adapters.")] = "unknown",
) -> None:
    """Make a module from PEFT LoRA adapters, however they were trained, or from two models; or both."""
    from lethe_offsets.create import create_module  # imports torch, which takes seconds

    rule = rule_options.rule_of(strength, pin_special, plausibility, clip, mode, rank_k, gate)
    module = create_module(
        name,
        small_model,
        out=out,
        plus=plus,
        minus=minus,
        plus_model=plus_model,
        rule=rule,
        description=description,
        version=version,
        large_model=large_model,
        licence=licence,
    )
    typer.echo(module.ref)


@app.command(cls=Command, epilog=INSPECT)
def inspect(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what a module forgets, how it is applied, what it weighs and how it scored."""
    from lethe_offsets import report
    from lethe_offsets.module import Module

    module = Module.open(directory)
    if as_json:
        typer.echo(json.dumps(report.as_dict(module), indent=2))
    else:
        Console().print(report.as_table(module))


@app.command(cls=Command, epilog=VERIFY)
def verify(
    directory: Directory,
    digest: Annotated[str | None, typer.Option(metavar="sha256:HEX", help="The digest it must have.")] = None,
    trusted_key: Annotated[
        list[Path] | None,
        typer.Option(metavar="PEM", help="Public key that must have signed it; repeated: one of them."),
    ] = None,
) -> None:
    """Read every file; print the reference when all is as recorded, else say what is not and exit with 1."""
    from lethe_offsets.module import Module
    from lethe_offsets.signing import check_signature

    module = Module.open(directory, expected_digest=digest)
    if trusted_key:
        check_signature(module, trusted_key)
    typer.echo(module.ref)


@app.command(cls=Command, epilog=SIGN)
def sign(
    directory: Directory,
    private_key: Annotated[
        Path, typer.Option(metavar="PEM", help="Private key of curve P-256, P-384 or P-521, unencrypted.")
    ],
) -> None:
    """Write a signature of the module, DIR/model.sig, and print its path."""
    from lethe_offsets import signing
    from lethe_offsets.module import Module

    typer.echo(signing.sign(Module.open(directory), private_key))


@app.command(cls=Command, epilog=INPUTS)
def inputs(
    directory: Directory,
    small_model: Annotated[str, typer.Option(metavar="DIR_OR_NAME", help="The small model it was made for.")],
    forget: Annotated[str, typer.Option(metavar="SET", help="The forget set that it was trained on.")],
    max_length: Annotated[int, typer.Option(min=2, help="Longer examples, in tokens, are refused.")] = 1024,
) -> None:
    """Write DIR.gram.safetensors, which lethe merge --method regression needs, and print its path.

    It holds X^T X of the inputs X of each adapted layer over the forget set: 4 bytes times the square of the layer's
    width, for each layer and lane. It is no text, but it tells whether a guessed text is what it was taken from: guard
    it as the forget set was guarded.
    """
    from lethe_offsets.merging.inputs import collect_inputs  # imports transformers and peft, which take seconds
    from lethe_offsets.module import Module
    from lethe_offsets.training.progress import progress_bars

    with progress_bars(Console(stderr=True)) as bars:
        path = collect_inputs(Module.open(directory), small_model, forget, max_length, bars)
    typer.echo(path)
