"""Operators of ours on the CPU, compiled once on each machine.

``torch.ops.lethe.add_adapters`` (``adapters.cpp``): the adapters' products. ``torch.ops.lethe.add_offset``
(``offset.cpp``): the offset on the logits.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import torch
from filelock import FileLock

SOURCES = [Path(__file__).with_name(name) for name in ("adapters.cpp", "offset.cpp")]
HEADER = Path(__file__).with_name("vectors.h")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fassociative-math", "-fno-signed-zeros", "-fno-trapping-math")


@functools.cache
def load(cache: Path) -> None:
    """Register the operators, compiled within ``cache`` unless they lie there already (about 12 s on two cores).

    The folder's name holds all that the compiled code depends on, the machine's instructions too: caches are shared.
    Raises RuntimeError when the compiler fails.
    """
    from torch.utils.cpp_extension import load as compile_extension

    texts = [path.read_text(encoding="utf-8") for path in (*SOURCES, HEADER)]
    made_of = (*texts, torch.__version__, *FLAGS, _instructions())
    folder = cache / f"kernels-{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "building"):
        (folder / "lock").unlink(missing_ok=True)  # torch's own; a killed build leaves it, and the next waits for ever
        compile_extension(
            "lethe_kernels", list(map(str, SOURCES)), list(FLAGS), build_directory=str(folder), is_python_module=False
        )
    # Nothing comes out: the operator adds to y in place.
    torch.library.register_fake("lethe::add_adapters", lambda *arguments: None)


def _instructions() -> str:
    """The processor's instruction sets, as Linux lists them."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
