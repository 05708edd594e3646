"""``lethe modules``: the modules of a running server."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from lethe_offsets.examples import Command, Group
from lethe_server.operator.options import AdminKey, AsJson, Url, admin, admin_of
from lethe_server.operator.show import modules_table, print_json

app = typer.Typer(add_completion=False)
SHOW = """
# LETHE_ADMIN_KEY holds an administrator's key
lethe modules
lethe modules --url http://127.0.0.1:8001 --json
"""
ADD = """
# LETHE_ADMIN_KEY holds an administrator's key
lethe modules add /srv/modules/forget-marta-2
lethe modules add s3://bucket/modules/forget-marta-2
"""
REMOVE = """
# LETHE_ADMIN_KEY holds an administrator's key
lethe modules remove forget-marta@sha256:8ab87001
"""


@app.callback(cls=Group, epilog=SHOW, invoke_without_command=True)
def modules(context: typer.Context, url: Url = None, admin_key: AdminKey = None, as_json: AsJson = False) -> None:
    """Show the modules of a running server; add and remove change them."""
    context.obj = (url, admin_key)
    if context.invoked_subcommand is None:
        with admin(url, admin_key) as client:
            found = client.modules()
            print_json([each.model_dump() for each in found]) if as_json else Console().print(modules_table(found))


@app.command(cls=Command, epilog=ADD)
def add(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="Directory on the server, or a URL that it may fetch from.")],
    digest: Annotated[str | None, typer.Option(metavar="sha256:HEX", help="The digest it must have.")] = None,
    url: Url = None,
    admin_key: AdminKey = None,
) -> None:
    """Bring a module into the catalog; no route changes. Prints its reference."""
    with admin_of(context, url, admin_key) as client:
        typer.echo(client.add_module(source, digest).ref)


@app.command(cls=Command, epilog=REMOVE)
def remove(
    context: typer.Context,
    ref: Annotated[str, typer.Argument(help="A module that no route names.")],
    url: Url = None,
    admin_key: AdminKey = None,
) -> None:
    """Take a module out of the catalog, once its requests have ended."""
    with admin_of(context, url, admin_key) as client, Console(stderr=True).status("waiting for its requests to end"):
        client.remove_module(client.resolve(ref))
