"""One server process: its socket, its engine, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import resource
import signal
import socket
from argparse import Namespace
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import uvicorn
from fastapi import FastAPI
from prometheus_client import disable_created_metrics

from lethe_offsets.errors import LetheError
from lethe_offsets.signing import check_keys
from lethe_server import app as application
from lethe_server import logs, options
from lethe_server.catalog.prefixes import Allowlist
from lethe_server.collector import frozen_heap
from lethe_server.connections import BoundedConnection
from lethe_server.engine.parsers import load_parsers
from lethe_server.engine.service import OffsetEngine
from lethe_server.engine.spec import EngineSpec
from lethe_server.errors import EngineDied, StartupFailed
from lethe_server.gate import CutOff
from lethe_server.keys_file import read_entries
from lethe_server.settings import Settings
from lethe_server.state.first import check_protected, read_first

LAST_WORD_S = 1.0  # in which a server without its engine still says so to whoever asks
LAST_ANSWERS_S = 5.0  # in which clients may take their last answers
STALLED_S = 60.0  # how long a client may take nothing of what is sent to it
NUM_FILES = 65536  # a connection is one
SIGNALS = (signal.SIGINT, signal.SIGTERM)
log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, which would end the process before the engine is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Finish what is running and end; called again, end at once."""
        self.force_exit = self.should_exit
        self.should_exit = True


def run(settings: Settings) -> None:
    """Serve until a signal. Raises a LetheError when the server can't start or its engine dies."""
    for number in SIGNALS:  # until the server runs; vLLM's start-up blocks and cleans up after an exception only
        signal.signal(number, _end)
    try:
        chosen = options.parse(settings.engine)
        logs.configure(chosen.frontend.uvicorn_log_level, settings.log_format)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each counter's
        load_parsers(chosen)
        allow_files()
        _check(settings)
        with contextlib.ExitStack() as until_the_end:
            listening = [until_the_end.enter_context(bound_socket(settings.host, port)) for port in settings.ports]
            runner = until_the_end.enter_context(asyncio.Runner(loop_factory=_uvloop()))
            runner.run(_serve(settings, chosen, listening))
    except LetheError:
        raise
    except Exception as err:
        log.debug("the server failed", exc_info=True)
        raise StartupFailed(f"the server failed: {type(err).__name__}: {' '.join(str(err).split())}") from err


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """Not KeyboardInterrupt, which vLLM swallows while it starts its engine (``zmq_socket_ctx``) and then waits on."""
    raise SystemExit(128 + number)


def _uvloop() -> Any:
    """uvloop's event loop where it is installed, as vLLM's own server uses; else asyncio's."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _check(settings: Settings) -> None:
    """Read what is to be served before the engine starts, which can take minutes; the application reads it again."""
    Allowlist(settings.sources)
    check_keys(settings.trusted_keys)
    if settings.keys_file is not None:
        read_entries(settings.keys_file)
    application.open_audit(settings).close()
    first, _ = read_first(settings)
    store = application.open_state(settings)
    declared = store.read()
    check_protected(declared or first, settings.allow_unprotected)
    routed = {ref for spec in declared.routes.values() for ref in spec.refs()} if declared else set()
    for ref in sorted(routed)[: settings.max_resident_modules]:
        store.get_module(ref)


def allow_files() -> None:
    """Raise the number of files this process may have open, as far as it may; 1,024 is a usual start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = NUM_FILES if hard == resource.RLIM_INFINITY else min(NUM_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def bound_socket(host: str, port: int) -> socket.socket:
    """Take the port before the engine starts. Raises StartupFailed when that is not possible."""
    with contextlib.ExitStack() as unless_bound:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            bound = unless_bound.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections take it over from the socket they come in by
                bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * STALLED_S))
            bound.bind(address)
        except OSError as err:
            raise StartupFailed(f"can't listen on {host}:{port}: {err.strerror or err}") from err
        unless_bound.pop_all()
    return bound


async def _serve(settings: Settings, chosen: options.Options, listening: list[socket.socket]) -> None:
    spec = EngineSpec(
        model=settings.model,
        small_model=settings.small_model,
        plus_model=settings.plus_model,
        served_model_name=settings.public_name,
        max_modules_per_batch=settings.max_modules_per_batch,
        max_resident_modules=settings.max_resident_modules,
        max_module_rank=settings.max_module_rank,
        max_offsets_per_request=settings.max_offsets_per_request,
        draft_tokens=settings.draft_tokens,
        pair_dtype=settings.pair_dtype,
        side_stream=settings.side_stream,
        options=chosen.engine,
    )
    engine = await OffsetEngine.start(spec)
    try:
        app = application.create_app(settings, engine)
        server = _Server(_uvicorn_config(app, settings, chosen.frontend))
    except BaseException:
        await engine.close()
        raise
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    async with app.router.lifespan_context(app):  # not uvicorn's: that one prints a stack trace when it fails
        if not server.should_exit:
            with frozen_heap():
                for each in listening:
                    log.info("listening on %s port %d", *each.getsockname()[:2])
                await _serve_while_alive(server, engine, listening)


async def _serve_while_alive(server: _Server, engine: OffsetEngine, listening: list[socket.socket]) -> None:
    """Raises EngineDied when the engine died; what it was answering has then failed."""
    death = asyncio.create_task(_end_with_engine(server, engine))
    try:
        await server.serve(sockets=listening)
    finally:
        death.cancel()
    if death.done() and not death.cancelled():
        raise death.result()


async def _end_with_engine(server: _Server, engine: OffsetEngine) -> EngineDied:
    died = await engine.death()
    log.error("%s; the server ends", died)
    server.config.timeout_graceful_shutdown = math.ceil(LAST_ANSWERS_S)
    await asyncio.sleep(LAST_WORD_S)
    server.stop()
    return died


def _uvicorn_config(app: FastAPI, settings: Settings, frontend: Namespace) -> uvicorn.Config:
    return uvicorn.Config(
        CutOff(app),
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,  # ours say more
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
        ssl_keyfile=frontend.ssl_keyfile,
        ssl_certfile=frontend.ssl_certfile,
        ssl_ca_certs=frontend.ssl_ca_certs,
        ssl_cert_reqs=frontend.ssl_cert_reqs,
        ssl_ciphers=frontend.ssl_ciphers or "TLSv1",
    )
