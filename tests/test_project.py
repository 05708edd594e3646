"""The house rules, read from the sources; nothing is imported and nothing is run."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("server", "offsets", "tests") for path in (ROOT / folder).rglob("*.py"))
PAGES = (
    "README.md",
    "server/README.md",
    "offsets/README.md",
    "offsets/extending.md",
    "deploy/README.md",
    "tests/README.md",
)
MAX_LINES, USUAL_LINES = 300, 150


def read(name: str | Path) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions and for type checkers too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(read(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def importing(folder: str, package: str) -> set[str]:
    """Files below ``folder`` that import ``package``; an empty folder is an error."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"no Python file in {folder}"
    return {str(path.relative_to(ROOT)) for path in files if package in imported(path)}


def test_no_file_is_long_and_four_in_five_are_short() -> None:
    lengths = {str(path.relative_to(ROOT)): len(read(path).splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}
    short = [name for name, length in lengths.items() if length < USUAL_LINES]
    assert len(short) >= 0.8 * len(lengths), f"{len(short)} of {len(lengths)} files are under {USUAL_LINES} lines"


def test_offsets_never_import_the_server_or_vllm() -> None:
    assert importing("offsets", "lethe_server") == set()
    assert importing("offsets", "vllm") == set()


def test_only_the_engine_its_options_and_the_benchmark_import_vllm() -> None:
    assert importing("server/lethe_server/routes", "vllm") == set()
    engine = importing("server/lethe_server/engine", "vllm") | importing("server/lethe_server/bench", "vllm")
    assert importing("server", "vllm") - engine <= {"server/lethe_server/options.py"}


def test_the_mathematics_import_only_torch() -> None:
    found = imported(ROOT / "offsets/lethe_offsets/pair.py")
    assert found - sys.stdlib_module_names == {"torch"}


def test_test_files_do_nothing_when_imported() -> None:
    tests = [path for path in SOURCES if path.name.startswith("test_")]
    assert tests
    idle = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.AnnAssign)
    for path in tests:
        for node in ast.parse(read(path)).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            elsewhere = (ast.Attribute, ast.Subscript)  # an assignment to these changes another module
            constant = isinstance(node, ast.Assign) and not any(isinstance(name, elsewhere) for name in node.targets)
            assert isinstance(node, idle) or docstring or constant, f"{path}:{node.lineno}"


def test_the_readme_names_every_folder() -> None:
    folders = [f"{path.name}/" for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    assert "server/" in folders
    ignored = read(".gitignore").split()
    assert [name for name in folders if name not in ignored and f"`{name}`" not in read("README.md")] == []


def test_the_operators_page_names_every_setting_and_metric() -> None:
    body = ast.parse(read("server/lethe_server/settings.py")).body
    settings = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    fields = [ast.unparse(node.target) for node in settings.body if isinstance(node, ast.AnnAssign)]
    sources = (ROOT / "server/lethe_server").glob("*metrics.py")
    metrics = [name for path in sources for name in re.findall(r'"(lethe_\w+)"', read(path))]
    assert fields
    assert metrics
    assert [name for name in (*fields, *metrics) if not re.search(rf"`{name}[`{{]", read("deploy/README.md"))] == []


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may end with, as code forges make it."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", read(page)) if "://" not in link]
    assert links or page == "tests/README.md"
    for link in links:
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target / "README.md" if target.is_dir() else target), link


@pytest.mark.parametrize("package", ["server/lethe_server", "offsets/lethe_offsets"])
def test_the_page_of_a_package_names_every_file(package: str) -> None:
    files = [path for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py"]
    assert files
    page = read((ROOT / package).parent / "README.md")
    # A file has a line of its own, or lies in a folder of the package that is described as a whole.
    whole = [path for path in files if path.parent != ROOT / package and f"`{path.parent.name}/`" in page]
    missing = [path for path in files if path not in whole and f"`{path.name}`" not in page]
    assert [str(path.relative_to(ROOT)) for path in missing] == []


def test_the_page_of_the_tests_names_every_helper() -> None:
    helpers = [path.name for path in (ROOT / "tests").glob("*.py")]
    assert "tiny.py" in helpers
    assert [name for name in helpers if f"`{name}`" not in read("tests/README.md")] == []
