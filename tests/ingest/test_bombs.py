"""Small files that unpack to far more than any session: given up soon, and said."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from ingest.readers import base, compressed, exports, lmm_export
from ingest.readers.base import json_lines
from ingest.readers.documents import json_value
from ingest.readers.registry import by_agent
from ingest.session import Cursor, ReadTo, Unreadable
from lmm_mcp.store.backup import MANIFEST

CONVERSATION = {"title": "", "create_time": 1, "update_time": 1, "mapping": {}}


def test_a_zip_that_unpacks_to_a_hundred_times_its_size_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversations.json", json.dumps([CONVERSATION] * 20_000))
    reader = by_agent("chatgpt")
    assert reader.claims(path)  # small enough to be unpacked, whatever it is
    monkeypatch.setattr(exports, "FREE_bytes", 100_000)
    assert not reader.claims(path)
    *said, end = reader.read(path, Cursor())
    assert said == [Unreadable(str(path), 0, "a zip that cannot be unpacked (BadZipFile) (1 times)")]
    assert end == ReadTo(Cursor())


def test_packed_lines_that_grow_without_end_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rollout-bomb.jsonl.zst"
    line = json.dumps({"timestamp": "2026-03-01T10:00:00Z", "type": "compacted", "payload": {}}) + "\n"
    path.write_bytes(zstandard.compress(line.encode() * 100_000))
    reader = by_agent("codex")

    def problems() -> list[str]:
        cursor, found = Cursor(), list[str]()
        while True:
            *said, end = reader.read(path, cursor)
            found += [
                item.problem for item in said if isinstance(item, Unreadable) and "times its size" in item.problem
            ]
            assert isinstance(end, ReadTo)
            if not end.has_more:
                return found
            cursor = end.cursor

    assert problems() == []
    monkeypatch.setattr(compressed, "FREE_bytes", 100_000)
    monkeypatch.setattr(compressed, "MAX_RATIO", 100)
    assert problems() == ["unpacks to more than 100 times its size"]


def test_of_a_backup_nothing_is_unpacked_that_stands_for_more_than_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "all.tar"
    packed = zstandard.compress(b"\n" * 1_000_000)
    with tarfile.open(path, "w:", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (
            (MANIFEST, b"{}"),
            ("archive/codex/00.jsonl.zst", b"bad"),
            ("archive/codex/01.jsonl.zst", packed),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if content == b"bad":
                member.pax_headers = {"GNU.sparse.map": "0,3", "GNU.sparse.size": str(10**12)}
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(lmm_export, "FREE_bytes", 100_000)
    reader = by_agent("lmm-export")
    assert reader.claims(path)
    *said, end = reader.read(path, Cursor())
    assert [item.problem for item in said if isinstance(item, Unreadable)] == [
        "no backup of lmm has files with holes",
        "archive/codex/01.jsonl.zst unpacks to more than 1,000 times its size",
    ]
    assert end == ReadTo(Cursor(path.stat().st_size))


def test_what_would_fill_the_memory_once_decoded_is_said_and_what_follows_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.jsonl"
    bomb = b'{"type":"user","x":[' + b"{}," * 2_000 + b"{}]}"
    path.write_bytes(bomb + b"\n" + b'{"text":"' + b"," * 500 + b'"}\n' + bomb)
    assert [item[0] for item in json_lines(path, Cursor()) if isinstance(item, tuple)] == [1, 2, 3]
    assert json_value(bomb, path)["type"] == "user"
    monkeypatch.setattr(base, "MAX_VALUES", 1_000)
    said, (line, _), end = json_lines(path, Cursor())
    assert said == Unreadable(str(path), 1, "line of more than 1,000 values")
    assert line == 2
    assert isinstance(end, ReadTo)
    assert isinstance(json_value(bomb, path), Unreadable)
