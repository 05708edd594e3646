"""A server on a read-only root file system, without capabilities, that can write to nothing but the chart's volumes."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kit import Kit, build_kit
from on_demand import on_demand
from server_process import ADMIN_KEY, serving

# Directories of every Debian stand for those of the chart: /models, /data, /state and /home/lethe.
MODELS, DATA, STATE, HOME = (Path("/mnt"), Path("/srv"), Path("/media"), Path("/home"))
READ_ONLY = ("unshare", "--mount", "--propagation=private", "sh", "-euc")
MOUNTS = f"""
mount --bind "$KIT" {MODELS}
mount -o remount,bind,ro {MODELS}
mount -o remount,bind,ro /
for volume in {DATA} {STATE} {HOME} /tmp /dev/shm; do mount -t tmpfs tmpfs "$volume"; done
cd {HOME}
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


def within(kit: Path, *command: str) -> list[str]:
    return [*READ_ONLY, MOUNTS.replace('"$KIT"', str(kit)), "sh", *command]


def can_mount() -> bool:
    tools = all(map(shutil.which, ("unshare", "setpriv")))
    return tools and os.geteuid() == 0 and not subprocess.run(within(HOME, "true"), capture_output=True).returncode


def inside(kit: Kit, root: Path) -> Kit:
    def moved(path: Path) -> Path:
        return MODELS / path.relative_to(root)

    modules = {name: dataclasses.replace(module, path=moved(module.path)) for name, module in kit.modules.items()}
    return dataclasses.replace(kit, large=moved(kit.large), small=moved(kit.small), modules=modules)


@pytest.mark.engine
@on_demand
def test_it_serves_and_swaps(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("file systems can't be mounted here")
    root = tmp_path / "kit"
    kit = inside(build_kit(root), root)
    one, other = list(kit.modules.values())[:2]
    options = ["--no-enforce-eager", "--module", str(one.path), "--served-model-name=public"]
    options += [f"--state-dir={STATE}", f"--audit-log={DATA}/audit.jsonl", f"--module-source={MODELS}"]
    for place in (Path(__file__).parent, MODELS, Path("/var/tmp")):
        touched = subprocess.run(within(root, "touch", str(place / "new")), capture_output=True, text=True)
        assert "Read-only file system" in touched.stderr
    with serving(tmp_path, kit, options, within(root), HOME=str(HOME), XDG_CACHE_HOME=f"{DATA}/cache") as server:
        assert server.answered_by("public") == one.ref
        with server.http(ADMIN_KEY) as http:
            assert http.post("/admin/modules", json={"source": str(other.path)}).is_success
            assert http.put("/admin/routes/public", json={"module": other.ref}).is_success
        assert server.answered_by("public") == other.ref
        assert server.stop() == 0
