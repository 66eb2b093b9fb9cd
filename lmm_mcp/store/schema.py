"""What the tables of the store look like, and how a `Chunk` becomes a row and back.

Two tables a shelf (`shelf.py`): `chunks` (text, with the full-text index on `terms`) and `vectors` (one row for each
embedded piece of a chunk). Beside them lies `store.json`, which says what wrote them and which shelves there are. Raise SCHEMA_VERSION when a column changes its meaning
and add the step to MIGRATIONS.

Another embedder's vectors are made in tables of their own, a set, while the old set is served; the record names both.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.errors import StoreError, StoreTooNew
from lmm_mcp.store.surrogates import mended
from lmm_mcp.store.terms import TERMS_VERSION, terms

SCHEMA_VERSION = 3
RECORD_FILE = "store.json"

CHUNKS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("agent", pa.string(), nullable=False),
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("thread_id", pa.string(), nullable=False),
        pa.field("project", pa.string(), nullable=False),
        pa.field("branch", pa.string(), nullable=False),
        pa.field("first_ms", pa.int64(), nullable=False),
        pa.field("last_ms", pa.int64(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("header", pa.string(), nullable=False),
        # JSON `[[role, text, event_id, start, end], ...]`: 40 rows load in 3 ms; as list<struct> they take 5.
        pa.field("lines", pa.string(), nullable=False),
        pa.field("files", pa.list_(pa.string()), nullable=False),
        pa.field("commands", pa.list_(pa.string()), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("terms", pa.string(), nullable=False),
        pa.field("written_ms", pa.int64(), nullable=False),
    ]
)
CHUNK_COLUMNS = [name for name in CHUNKS.names if name not in ("terms", "written_ms")]
PLACE_COLUMNS = [
    *("agent", "thread_id", "session_id", "project", "branch", "first_ms", "last_ms", "part", "ordinal", "content_hash")
]
"""What decides whether a row must be written again: its text, and where it belongs, which may change without the text."""
SCOPE_COLUMNS = ["project", "agent", "first_ms", "last_ms"]
"""Repeated in `vectors`, so that a search there is narrowed without a join."""


def vectors_schema(dim: int) -> pa.Schema:
    """Columns of the `vectors` table for embeddings of `dim` numbers."""
    return pa.schema(
        [
            pa.field("chunk_id", pa.string(), nullable=False),
            pa.field("piece", pa.int32(), nullable=False),
            pa.field("vector", pa.list_(pa.float32(), dim), nullable=False),
            pa.field("project", pa.string(), nullable=False),
            pa.field("agent", pa.string(), nullable=False),
            pa.field("first_ms", pa.int64(), nullable=False),
            pa.field("last_ms", pa.int64(), nullable=False),
            # The vectors of its windows (`domain/windows.py`); null where they were never made.
            pa.field("windows", pa.binary()),
        ]
    )


@dataclass(frozen=True, slots=True)
class EmbedderRecord:
    """Which embedder made the vectors."""

    name: str
    version: str
    dim: int


@dataclass(frozen=True, slots=True)
class StoreRecord:
    """What wrote the tables; kept in `store.json`."""

    schema_version: int = SCHEMA_VERSION
    terms_version: int = TERMS_VERSION
    embedder: EmbedderRecord | None = None
    shelves: tuple[int, ...] = (1,)
    """Numbers of the tables, oldest first. Tables of other numbers are left over."""
    num_losses: int = 0
    """How often rows were deleted, or written anew under other ids: whoever holds rows in memory lets go of them."""
    vector_set: int = 0
    """Which tables hold the vectors that are served, made by `embedder`."""
    next_embedder: EmbedderRecord | None = None
    """Whose vectors are being made beside them, to be served once they are complete; None where none are."""
    newest_set: int = 0
    """The tables of those; no number comes twice, so that nobody has a table open that became another."""

    @property
    def next_set(self) -> int | None:
        """Which tables hold the vectors that are being made; None where none are."""
        return None if self.next_embedder is None else self.newest_set


def read_record(folder: Path) -> StoreRecord | None:
    """Read `store.json`; None where there is no store yet. Raises StoreTooNew, and StoreError if it is damaged."""
    path = folder / RECORD_FILE
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        record = StoreRecord(
            int(found["schema_version"]),
            int(found["terms_version"]),
            _embedder(found["embedder"]),
            tuple(int(number) for number in found.get("shelves", (1,))) or (1,),
            int(found.get("num_losses", 0)),
            int(found.get("vector_set", 0)),
            _embedder(found.get("next_embedder")),
            int(found.get("newest_set", 0)),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as problem:
        raise StoreError(
            f"{path} is damaged ({problem!r}). Move the folder {folder} away and run `lmm import`: "
            "the store is built again from the archive."
        ) from problem
    if record.schema_version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"the store in {folder} has schema {record.schema_version}, this program knows up to {SCHEMA_VERSION}. "
            "Upgrade lmm-mcp, or set LMM_HOME to another folder."
        )
    return record


def _embedder(told: dict[str, Any] | None) -> EmbedderRecord | None:
    return None if told is None else EmbedderRecord(told["name"], told["version"], int(told["dim"]))


def write_record(folder: Path, record: StoreRecord) -> None:
    """Write `store.json` beside and rename it over: readers see the old one or the new one."""
    beside = folder / f"{RECORD_FILE}.new"
    with beside.open("w", encoding="utf-8") as file:
        json.dump(asdict(record), file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / RECORD_FILE)


def with_shelves(record: StoreRecord, numbers: tuple[int, ...]) -> StoreRecord:
    """The same record, but for which shelves there are."""
    return replace(record, shelves=numbers)


def _add_windows(database: Any) -> None:
    for path in sorted(Path(database.uri).glob("vectors*.lance")):
        table = database.open_table(path.stem)
        if "windows" not in table.schema.names:
            table.add_columns(pa.field("windows", pa.binary()))


MIGRATIONS: Mapping[int, Callable[[Any], None]] = {1: lambda _: None, 2: _add_windows}
"""1 to 2: more than one shelf became possible; what was the whole store is the first. 2 to 3: windows have vectors; what
was embedded before is found by its old vector until it is embedded anew.

From schema version n to n + 1: what to do with the LanceDB connection. May be interrupted, so it must be repeatable."""


def table_of(chunks: Sequence[Chunk]) -> pa.Table:
    """Rows of the `chunks` table, analysed for search."""
    now_ms = time.time_ns() // 1_000_000
    columns: dict[str, list[Any]] = {
        name: [getattr(chunk, name) for chunk in chunks]
        for name in CHUNKS.names
        if name not in ("lines", "terms", "written_ms")
    }
    columns["lines"] = [lines_json(chunk.lines) for chunk in chunks]
    columns["terms"] = [" ".join(terms("\n".join(_texts(chunk)))) for chunk in chunks]
    columns["written_ms"] = [now_ms] * len(chunks)
    try:
        return pa.table([columns[name] for name in CHUNKS.names], schema=CHUNKS)
    except UnicodeEncodeError:
        return pa.table([mended(columns[name]) for name in CHUNKS.names], schema=CHUNKS)


def _texts(chunk: Chunk) -> tuple[str, ...]:
    return (chunk.header, *(line.text for line in chunk.lines), *chunk.files, *chunk.commands)


def text_of_row(header: str, lines: str, files: Sequence[str], commands: Sequence[str]) -> str:
    """All that a question may meet in a row; what `terms` is made of."""
    return "\n".join((header, *(line[1] for line in orjson.loads(lines)), *files, *commands))


def lines_json(lines: Sequence[Line]) -> str:
    """Lines as kept in a row."""
    rows = [(line.role, line.text, line.span.event_id, line.span.start, line.span.end) for line in lines]
    try:
        return orjson.dumps(rows).decode("utf-8")
    except TypeError:
        return orjson.dumps(mended(rows)).decode("utf-8")


def chunks_of(rows: pa.Table) -> list[Chunk]:
    """Chunks from rows that hold at least CHUNK_COLUMNS."""
    columns = {name: rows[name].to_pylist() for name in CHUNK_COLUMNS}
    columns["lines"] = [
        tuple(Line(role, text, Span(event, start, end)) for role, text, event, start, end in orjson.loads(lines))
        for lines in columns["lines"]
    ]
    columns["files"] = [tuple(files) for files in columns["files"]]
    columns["commands"] = [tuple(commands) for commands in columns["commands"]]
    return [Chunk(**dict(zip(CHUNK_COLUMNS, row, strict=True))) for row in zip(*columns.values(), strict=True)]
