"""A reader that another package brings, by the example of the documentation."""

import os
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from ingest import sources
from ingest.readers import registry
from ingest.readers.codex import Codex
from ingest.session import SourceFile
from lmm_mcp import children
from lmm_mcp.config import Sessions
from lmm_mcp.domain.event import Event
from lmm_mcp.paths import Home

DOCS = Path(__file__).resolve().parents[2] / "docs" / "readers.md"


def documented() -> str:
    return DOCS.read_text(encoding="utf-8")


def documented_code() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```", documented(), re.MULTILINE | re.DOTALL)
    assert isinstance(code, str)
    return code


def documented_reader() -> type:
    names: dict[str, object] = {}
    exec(compile(documented_code(), str(DOCS), "exec"), names)
    found = names["Parrot"]
    assert isinstance(found, type)
    return found


def brought(monkeypatch: pytest.MonkeyPatch, *loaders: object) -> tuple[object, ...]:
    points = [SimpleNamespace(name=f"p{n}", load=loader) for n, loader in enumerate(loaders)]
    monkeypatch.setattr(metadata, "entry_points", lambda *, group: points if group == registry.ENTRY_POINTS else [])
    return registry._brought()


def test_a_package_that_is_installed_beside_brings_its_reader(tmp_path):
    """By the entry points of a real distribution, in the process that reads."""
    site, home = tmp_path / "site", tmp_path / "home"
    about = site / "lmm_parrot-0.1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lmm-parrot\nVersion: 0.1\n", encoding="utf-8")
    (told,) = re.findall(r"^```toml\n(\[project.entry-points.*?)^```", documented(), re.MULTILINE | re.DOTALL)
    ((group, points),) = tomllib.loads(told)["project"]["entry-points"].items()
    named = "".join(f"{name} = {place}\n" for name, place in points.items())
    (about / "entry_points.txt").write_text(f"[{group}]\n{named}", encoding="utf-8")
    (site / "lmm_parrot.py").write_text(documented_code(), encoding="utf-8")
    (home / ".parrot").mkdir(parents=True)
    (home / ".parrot" / "s1.jsonl").write_bytes(b'{"id": 1, "who": "user", "text": "Polly?"}\n')
    env = {
        **os.environ,
        "HOME": str(home),
        "USERPROFILE": str(home),
        "PYTHONPATH": os.pathsep.join([str(site), *sys.path]),
    }
    found = {each.agent: each for each in children.survey(Home(home / ".lmm"), env)}
    assert (found["parrot"].num_sources, found["parrot"].is_built_in) == (1, False)


def test_the_documented_reader_reads_its_sessions(monkeypatch, tmp_path):
    (reader,) = brought(monkeypatch, documented_reader)
    monkeypatch.setattr(sources, "READERS", (reader,))
    monkeypatch.setattr(registry, "READERS", (reader,))
    lines = [{"id": 1, "who": "user", "text": "Polly?", "time": "2026-03-01T10:00:00Z"}, {"id": 2, "text": "Polly!"}]
    (tmp_path / ".parrot").mkdir()
    (tmp_path / ".parrot" / "s1.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    (source,) = sources.find({"HOME": str(tmp_path)}, Sessions(), tmp_path / "notes")
    assert isinstance(source, SourceFile)
    events = [item for item in registry.by_agent("parrot").read(source.path, source.start) if isinstance(item, Event)]
    assert [(event.kind, event.text) for event in events] == [("prompt", "Polly?"), ("reply", "Polly!")]


def test_a_reader_that_cannot_be_loaded_or_takes_a_name_that_is_taken_is_left_out_and_said(monkeypatch, caplog):
    def broken() -> type:
        raise ImportError("no such module")

    assert brought(monkeypatch, broken, lambda: Codex) == ()
    assert "no such module" in caplog.text
    assert "there is a reader of codex already" in caplog.text
