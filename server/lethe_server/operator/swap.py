"""``lethe swap`` and ``lethe rollback``: another module for a public name, at once or step by step."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from lethe_offsets.examples import Command
from lethe_server.operator.client import AdminClient, ChangeInfo, RouteInfo
from lethe_server.operator.options import (
    DEFAULT_TIMEOUT_S,
    AdminKey,
    AsJson,
    Canary,
    Model,
    Shadow,
    Timeout,
    Url,
    Wait,
    admin,
)
from lethe_server.operator.plan import plan_canary, plan_shadow, plan_swap
from lethe_server.operator.show import print_json, routes_table
from lethe_server.operator.waiting import replaced, wait

swap_app = typer.Typer(add_completion=False)
rollback_app = typer.Typer(add_completion=False)
SWAP = """
# LETHE_ADMIN_KEY holds an administrator's key
lethe swap my-model forget-marta@sha256:97fe8135 --canary 5
lethe swap my-model forget-marta@sha256:97fe8135 --wait
"""
ROLLBACK = """
# LETHE_ADMIN_KEY holds an administrator's key
lethe rollback my-model --wait
"""

Refs = Annotated[list[str], typer.Argument(metavar="REF...", help="A module; several answer together.")]


@swap_app.command(cls=Command, epilog=SWAP)
def swap(
    model: Model,
    ref: Refs,
    canary: Canary = None,
    shadow: Shadow = None,
    wait_for: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Let a public name stand for another module. Requests under way end on what they began with."""
    if canary is not None and shadow is not None:
        raise typer.BadParameter("give --canary or --shadow, not both", param_hint="--shadow")
    if canary is not None and not 0 < canary < 100:
        raise typer.BadParameter(f"got {canary:g}; accepted: above 0 and below 100", param_hint="--canary")
    with admin(url, admin_key) as client:
        generation, before = client.state().generation, _route(client, model)
        refs = [client.resolve(each) for each in ref]
        if canary is not None:
            spec = plan_canary(before, refs, canary, model)
        elif shadow is not None:
            spec = plan_shadow(before, refs, shadow, model)
        else:
            spec = plan_swap(refs)
        _finish(client, before, client.put_route(model, spec, generation), timeout if wait_for else None, as_json)


@rollback_app.command(cls=Command, epilog=ROLLBACK)
def rollback(
    model: Model,
    wait_for: Wait = False,
    timeout: Timeout = DEFAULT_TIMEOUT_S,
    url: Url = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Let a public name stand for what it stood for before its last change; again, and that is taken back."""
    with admin(url, admin_key) as client:
        before = _route(client, model)
        _finish(client, before, client.roll_back(model), timeout if wait_for else None, as_json)


def _finish(
    client: AdminClient, before: RouteInfo | None, changed: ChangeInfo, timeout_s: float | None, as_json: bool
) -> None:
    if timeout_s is not None:
        wait(client, changed.generation, replaced(before, changed), timeout_s)
    if as_json:
        print_json(changed.model_dump())
    else:
        Console().print(routes_table([changed]))


def _route(client: AdminClient, model: str) -> RouteInfo | None:
    return next((each for each in client.routes() if each.model == model), None)
