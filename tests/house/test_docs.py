"""The documentation runs: examples in docstrings, the README's commands, the tables of settings and of rooms."""

import ast
import doctest
import importlib
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

from lmm_mcp import config
from lmm_mcp.domain.agents import KNOWN_AGENTS, PLACES

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lmm_mcp", "ingest", "trainer", "prompts")


def modules() -> list[str]:
    paths = (
        path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py")) if path.name != "__main__.py"
    )
    names = (path.relative_to(ROOT).with_suffix("").parts for path in paths)
    return [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in names]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_are_true(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0, "the failed examples are printed above"


def first_screen(readme: str) -> str:
    """Everything above the first section."""
    return readme.split("\n## ", 1)[0]


def commands(markdown: str) -> list[str]:
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)
    lines = [line.partition("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_first_screen_of_the_readme_is_short_and_has_exactly_the_two_commands():
    screen = first_screen((ROOT / "README.md").read_text(encoding="utf-8"))
    assert commands(screen) == ["python3 bootstrap.py", "python3 bootstrap.py test"]
    assert len(screen.splitlines()) <= 30


def test_ci_runs_the_test_command_of_the_readme_and_nothing_weaker():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    lines = [line.strip() for line in script.splitlines() if line.strip().startswith("python3")]
    assert sorted(lines) == ["python3 bootstrap.py check", "python3 bootstrap.py test"]
    assert "|| true" not in script


@pytest.mark.parametrize("name", [*KNOWN_AGENTS, *PLACES])
def test_every_agent_that_is_read_and_every_variable_that_leads_to_one_is_documented(name):
    if name != "notes":  # our own
        assert f"`{name}`" in (ROOT / "docs" / "readers.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", config.names())
def test_every_setting_is_documented(name):
    assert f"`{name}`" in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", config.names())
def test_a_setting_is_documented_with_its_variable_type_and_default(name):
    settings = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    (row,) = [line for line in settings.splitlines() if line.startswith(f"| `{name}` |")]
    _, _, variable, kind, default, meaning, _ = [cell.strip() for cell in row.split("|")]
    section, _, setting = name.partition(".")
    value = getattr(getattr(config.Settings(), section), setting)
    assert variable == f"`{config.variable(name)}`"
    assert kind == {"int": "whole number", "str": "text"}.get(config.names()[name], config.names()[name])
    assert default.strip("`") == ("none" if value in ((), "") else str(value))
    assert meaning


@pytest.mark.parametrize("name", config.names())
def test_the_variable_of_a_setting_sets_it(name, tmp_path):
    particular = {"recall.without": "words", "train.schedule": "nightly"}
    text = particular.get(name) or ("1234" if config.names()[name] == "int" else "some=thing")
    section, _, setting = name.partition(".")
    value = getattr(getattr(config.load(tmp_path / "none.toml", {config.variable(name): text}), section), setting)
    assert value in (1234, text, (text,))


def test_every_setting_says_what_it_means():
    assert list(config.meanings()) == list(config.names())
    assert all(config.meanings().values())


def test_no_setting_is_documented_that_is_not_there():
    settings = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    sections = {name.partition(".")[0] for name in config.names()}
    named = {
        name
        for name in re.findall(r"^\| `([a-z_]+\.[a-z_]+)`", settings, re.MULTILINE)
        if name.split(".")[0] in sections
    }
    assert named == set(config.names())


def rooms() -> list[str]:
    """Paths in the first column of the table of rooms; a name without a folder lies beside the one before it."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = []
    for line in text.splitlines():
        if line.startswith("| `"):
            folder = ""
            for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
                folder = name.rpartition("/")[0] if "/" in name else folder
                found.append(name if "/" in name else f"{folder}/{name}")
    return found


@pytest.mark.parametrize("room", rooms())
def test_every_room_in_the_architecture_is_there(room):
    assert (ROOT / room).exists()


def test_every_file_has_its_place_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    folders = tuple(room for room in rooms() if room.endswith("/"))
    files = [path for name in ("lmm_mcp", "ingest") for path in (ROOT / name).rglob("*.py")]
    homeless = {
        str(path.relative_to(ROOT))
        for path in files
        if not path.name.startswith("__")
        and not path.relative_to(ROOT).as_posix().startswith(folders)
        and not re.search(rf"`(?:[\w/]+/)?{re.escape(path.name)}`", text)
    }
    assert not homeless


@pytest.mark.parametrize(
    "dependency", re.findall(r'^    "([a-z0-9-]+)[>=]', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
)
def test_every_dependency_has_its_reason(dependency):
    assert f"| `{dependency}` |" in (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")


def test_every_library_that_is_imported_is_a_declared_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in extras if name != "dev" for line in extras[name])]
    declared = {re.split(r"[^\w.-]", line)[0].lower() for line in lines}
    own = {*sys.stdlib_module_names, *PACKAGES}
    by_library = importlib.metadata.packages_distributions()
    undeclared = {
        f"{library} in {path.relative_to(ROOT)}"
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for library in imported(path) - own
        if not {name.lower().replace("_", "-") for name in by_library.get(library, [library])} & declared
    }
    assert not undeclared


def imported(path: Path) -> set[str]:
    """Top-level names of all that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_links_between_the_documents_lead_somewhere():
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name} points to {target}"
