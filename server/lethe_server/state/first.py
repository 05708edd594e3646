"""The first generation: what the command line says is to be served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lethe_offsets.catalog import Catalog
from lethe_offsets.errors import InvalidInput
from lethe_offsets.module import Module
from lethe_offsets.signing import check_signature
from lethe_server.names import BASE, check_public_name
from lethe_server.settings import Settings
from lethe_server.state.declared import DeclaredState, Modules, RouteSpec, Source, Target


def first_state(
    routes: Mapping[str, str], served_name: str, modules: Iterable[Module], allow_unprotected: bool
) -> DeclaredState:
    """The first generation: ``modules``, and ``routes`` from public names to one of them or to the large model alone.

    Raises InvalidInput or ModuleNotFound for a route that can't be, and when the routes to make aren't clear.
    """
    catalog = Catalog()
    for module in modules:
        catalog.add(module)
    planned = _planned(routes, catalog, allow_unprotected) if routes else {}
    if not routes:
        planned[served_name] = _only_module(catalog, allow_unprotected)
    return DeclaredState(
        generation=1,
        catalog={module.ref: Source(ref=module.ref, source=str(module.path.resolve())) for module in catalog.list()},
        routes={name: RouteSpec(targets=(Target(modules=target),)) for name, target in planned.items()},
    )


def read_first(settings: Settings) -> tuple[DeclaredState, list[Module]]:
    """The first generation and the modules of its catalog; generation 0 where the command line names nothing.

    Raises as ``first_state``, what a directory that is no module raises, and, where signatures are asked for,
    ModuleUnsigned and SignatureInvalid.
    """
    modules = [Module.open(path) for path in settings.modules]
    if settings.trusted_keys:
        for module in modules:
            check_signature(module, settings.trusted_keys)
    if not settings.names_a_module:
        return DeclaredState(), []
    return first_state(settings.routes, settings.public_name, modules, settings.allow_unprotected), modules


def check_protected(state: DeclaredState, allow_unprotected: bool) -> None:
    """Raises InvalidInput for a route to the large model alone, unless that is allowed."""
    if allow_unprotected:
        return
    for name, spec in state.routes.items():
        if () in spec.groups():
            raise InvalidInput(f"routes.{name}", BASE, "a module; --allow-unprotected to serve the large model alone")


def _planned(routes: Mapping[str, str], catalog: Catalog, allow_unprotected: bool) -> dict[str, Modules]:
    planned: dict[str, Modules] = {}
    for name, target in routes.items():
        if target == BASE and not allow_unprotected:
            raise InvalidInput(f"routes.{name}", target, "a module; --allow-unprotected to serve the large model alone")
        planned[check_public_name(name, "routes")] = () if target == BASE else (catalog.get(target).ref,)
    return planned


def _only_module(catalog: Catalog, allow_unprotected: bool) -> Modules:
    modules = catalog.list()
    if len(modules) > 1:
        names = [module.name for module in modules]
        targets = names if len(set(names)) == len(names) else [module.ref for module in modules]
        example = " ".join(f"--route PUBLIC={target}" for target in targets)
        raise InvalidInput("routes", None, f"one for each module that is to be served, such as {example}")
    if not modules and not allow_unprotected:
        raise InvalidInput("modules", None, "at least one --module; --allow-unprotected to serve the large model alone")
    return (modules[0].ref,) if modules else ()
