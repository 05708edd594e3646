"""What the entry point does in every process that vLLM starts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

# arch_prctl(ARCH_GET_XCOMP_PERM): bit 18 is the tiles' data.
PERMITTED = """
import ctypes
from vllm.plugins import load_general_plugins
before, after = ctypes.c_uint64(), ctypes.c_uint64()
ask = lambda mask: ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(mask))
assert ask(before) == 0
load_general_plugins()
assert ask(after) == 0
print(before.value >> 18 & 1, after.value >> 18 & 1)
"""


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="this processor has no AMX")
def test_processes_may_use_amx() -> None:
    done = subprocess.run([sys.executable, "-c", PERMITTED], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-2:] == ["0", "1"]
