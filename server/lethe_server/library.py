"""From references to modules in the engine: kept files, verified; several are merged, or the engine adds them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from lethe_offsets.errors import LetheError
from lethe_offsets.module import Module
from lethe_offsets.signing import check_signature
from lethe_server.residents import label
from lethe_server.state.declared import Modules
from lethe_server.state.store import StateStore

if TYPE_CHECKING:
    from lethe_server.engine.loaded import LoadedModule
    from lethe_server.engine.service import OffsetEngine
    from lethe_server.metrics import Metrics

MAX_KNOWN = 4096  # manifests kept in memory
log = logging.getLogger(__name__)


class Library:
    """Opens what the state declares. Every call reads files: never make one on the event loop, but for ``known``.

    trusted_keys: public keys, of which one must have signed each module; none: modules need no signature. Merged
    modules lie in ``cache`` by what they are made of, or where signatures are asked for in a directory of this process.
    merges: whether several modules are merged into one; else the engine adds their offsets.
    """

    def __init__(self, store: StateStore, cache: Path, trusted_keys: Sequence[Path] = (), merges: bool = True) -> None:
        self._store = store
        self._merged = Path(mkdtemp(prefix="lethe-merged-")) if trusted_keys else cache / "merged"
        self._trusted_keys = trusted_keys
        self._merges = merges
        self._known: OrderedDict[str, Module] = OrderedDict()
        self._merging = threading.Lock()

    def open(self, modules: Modules) -> list[Module]:
        """What the engine is to load: the modules, or their merger by concatenation, which adds their weight changes.

        Raises ModuleNotFound, ModuleInvalid, ModuleCorrupt, ModuleIncompatible for modules that can't be merged, and
        ModuleUnsigned or SignatureInvalid where signatures are asked for.
        """
        opened = [self._open(ref) for ref in modules]
        return [self._merge(opened)] if self._merges and len(opened) > 1 else opened

    def known(self, ref: str) -> Module | None:
        """A module that was opened before; its files may have changed since, its manifest not."""
        return self._known.get(ref)

    def look(self, ref: str) -> Module:
        """A module, opened now if it never was. Raises as ``open``."""
        return self._known.get(ref) or self._open(ref)

    def close(self) -> None:
        if self._trusted_keys:
            shutil.rmtree(self._merged, ignore_errors=True)

    def _open(self, ref: str) -> Module:
        module = self._store.get_module(ref)
        if self._trusted_keys:
            check_signature(module, self._trusted_keys)
        self._known[ref] = module
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return module

    def _merge(self, modules: Sequence[Module]) -> Module:
        from lethe_offsets.merging.merge import merge_modules  # seconds to import
        from lethe_offsets.merging.settings import MergeSettings

        refs = [module.ref for module in modules]
        folder = self._merged / hashlib.sha256("\n".join(refs).encode()).hexdigest()
        with self._merging:
            try:
                return Module.open(folder)
            except LetheError:  # not there, or damaged
                shutil.rmtree(folder, ignore_errors=True)
            name = "_".join(module.name for module in modules)[:64]
            merged = merge_modules(modules, MergeSettings("cat"), name=name, out=folder)
        log.info("merged %s into %s", ", ".join(refs), merged.ref)
        return merged


class EngineLoader:
    """Loads what the library opens into the engine."""

    def __init__(self, library: Library, engine: OffsetEngine, metrics: Metrics) -> None:
        self._library = library
        self._engine = engine
        self._metrics = metrics

    async def load(self, modules: Modules, strength: float | None) -> LoadedModule:
        """Raises what the library and the engine raise."""
        try:
            loaded = await self._engine.load(await asyncio.to_thread(self._library.open, modules), strength)
        except Exception as err:
            self._metrics.load_failed(err)
            raise
        self._metrics.loaded(loaded.seconds, loaded.adapter_id, label(modules))
        shown = loaded.ref if strength is None else f"{loaded.ref} at strength {strength:g}"
        log.info("module %s loaded and probed in %.2f s", shown, loaded.seconds)
        return loaded

    async def unload(self, loaded: LoadedModule) -> None:
        await self._engine.unload(loaded)
        self._metrics.unloaded(loaded.adapter_id)
        log.info("module %s unloaded", loaded.ref)
