"""``lethe routes``: what answers for which public name."""

from __future__ import annotations

import typer
from rich.console import Console

from lethe_offsets.examples import Command, Group
from lethe_server.operator.options import AdminKey, AsJson, Model, Url, admin, admin_of
from lethe_server.operator.show import print_json, routes_table, state_line

app = typer.Typer(add_completion=False)
SHOW = """
# LETHE_ADMIN_KEY holds an administrator's key
lethe routes
lethe routes --url http://127.0.0.1:8001 --json
"""
REMOVE = """
# LETHE_ADMIN_KEY holds an administrator's key
lethe routes remove my-model
"""


@app.callback(cls=Group, epilog=SHOW, invoke_without_command=True)
def routes(context: typer.Context, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show what answers for which public name; remove takes a name away."""
    context.obj = (url, admin_key)
    if context.invoked_subcommand is not None:
        return
    with admin(url, admin_key) as client:
        state, found = client.state(), client.routes()
    if as_json:
        print_json({**state.model_dump(), "routes": [each.model_dump() for each in found]})
    else:
        Console().print(routes_table(found))
        print(state_line(state))


@app.command("remove", cls=Command, epilog=REMOVE)
def remove_route(context: typer.Context, model: Model, url: Url = None, admin_key: AdminKey = None) -> None:
    """Let a public name stand for nothing."""
    with admin_of(context, url, admin_key) as client:
        client.remove_route(model)
