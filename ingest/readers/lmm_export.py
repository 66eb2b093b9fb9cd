"""Sessions that this memory itself wrote out: `lmm export` (JSON lines, Parquet) and `lmm backup`.

In them every thread bears the agent it came from, so what is read here is filed as if that agent's own files had been read,
and merges with what is known of them by the agents' ids. Everything is redacted once more, by the rules of this machine.
"""

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from ingest.readers.base import FileReader, SLICE_bytes, json_lines
from ingest.readers.compressed import MAX_RATIO, FREE_bytes, compressed_json_lines
from ingest.readers.opening import open_file
from ingest.readers.values import ODDITIES
from ingest.session import Cursor, Item, ReadTo, Unreadable
from lmm_mcp.domain.agents import EXPORTS
from lmm_mcp.domain.event import Thread
from lmm_mcp.errors import ArchiveError
from lmm_mcp.store import exporting, frames
from lmm_mcp.store.archive import records_in
from lmm_mcp.store.backup import MANIFEST

_FIRST_bytes = 4096


class LmmExport(FileReader):
    """Reader of this program's own exports. They have no place of their own: the user names them."""

    agent = EXPORTS
    version = 1

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:  # noqa: ARG002 - the protocol
        """The files and folders named."""
        return tuple(extra)

    def discover(self, root: Path) -> Iterator[Path]:
        """Exports in the folder, or the file itself."""
        candidates = [root] if root.is_file() else sorted(root.iterdir()) if root.is_dir() else []
        yield from (path for path in candidates if path.is_file() and self.claims(path))

    def claims(self, path: Path) -> bool:
        """Whether it begins as our exports and backups do."""
        if not path.name.endswith((*exporting.ENDINGS, ".tar")):
            return False
        try:
            with open_file(path) as stream:
                if path.suffix == ".parquet":
                    return exporting.MARK.encode() in (pq.read_schema(pa.PythonFile(stream, mode="r")).metadata or {})
                if path.suffix == ".zst":
                    first = zstandard.ZstdDecompressor().stream_reader(stream).read1(_FIRST_bytes)
                else:
                    first = stream.read(_FIRST_bytes)
        except (OSError, pa.ArrowException, zstandard.ZstdError):
            return False
        return first.startswith(
            MANIFEST.encode() + b"\0" if path.suffix == ".tar" else f'{{"{exporting.MARK}":'.encode()
        )

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield the threads and their events, in slices. Raises OSError where the file cannot be read."""
        if path.suffix == ".parquet":
            yield from _parquet(path, cursor)
        elif path.suffix == ".tar":
            yield from _backup(path, cursor)
        else:
            yield from _json_lines(path, cursor)


def _json_lines(path: Path, cursor: Cursor) -> Iterator[Item]:
    thread = exporting.thread_of(dict(cursor.context["thread"])) if "thread" in cursor.context else None
    if thread is not None:
        yield thread
    if path.suffix == ".zst":
        found = compressed_json_lines(path, cursor, final=True, slice_bytes=SLICE_bytes)
    else:
        found = json_lines(path, cursor, slice_bytes=SLICE_bytes)
    for item in found:
        if isinstance(item, Unreadable):
            yield item
            continue
        if isinstance(item, ReadTo):
            context = {"thread": _fields(thread)} if thread is not None else {}
            yield ReadTo(Cursor(item.cursor.offset, item.cursor.line, context), item.has_more)
            continue
        line, record = item
        if exporting.MARK in record:
            if (refused := _too_new(record[exporting.MARK], path)) is not None:
                yield refused
                yield ReadTo(Cursor())
                return
            continue
        try:
            if "thread" in record:
                thread = exporting.thread_of(record["thread"])
                yield thread
            elif thread is not None:
                yield exporting.event_of(record["event"])
        except ODDITIES as problem:
            yield Unreadable(str(path), line, f"no exported record ({type(problem).__name__})")


def _parquet(path: Path, cursor: Cursor) -> Iterator[Item]:
    """One row group at a time; the cursor's offset counts them."""
    try:
        with open_file(path) as raw, pq.ParquetFile(pa.PythonFile(raw, mode="r")) as file:
            metadata = file.schema_arrow.metadata or {}
            if (refused := _too_new(metadata.get(exporting.MARK.encode(), b"0").decode(), path)) is not None:
                yield refused
                yield ReadTo(Cursor())
                return
            group = cursor.offset
            if group < file.num_row_groups:
                yield from _rows(file.read_row_group(group).to_pylist(), path)
                group += 1
            yield ReadTo(Cursor(offset=group), group < file.num_row_groups)
    except pa.ArrowException as problem:
        yield Unreadable(str(path), 0, f"no Parquet file: {str(problem).splitlines()[0][:200]}")
        yield ReadTo(Cursor())


def _rows(rows: Sequence[Mapping[str, Any]], path: Path) -> Iterator[Item]:
    thread: Thread | None = None
    columns = {exporting.column_of(name): name for name in Thread.__dataclass_fields__}
    for number, row in enumerate(rows, 1):
        try:
            now = exporting.thread_of({name: row[column] for column, name in columns.items() if column in row})
            if now != thread:
                thread = now
                yield now
            yield exporting.event_of(dict(row))
        except ODDITIES as problem:
            yield Unreadable(str(path), number, f"no exported row ({type(problem).__name__})")


def _backup(path: Path, cursor: Cursor) -> Iterator[Item]:
    """Some archived threads at a time; the cursor's offset is where the next one's file begins within the archive."""
    with open_file(path) as file:
        file.seek(cursor.offset)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    if member.issparse():  # a few bytes that stand for any number of zeros
                        yield Unreadable(str(path), 0, "no backup of lmm has files with holes")
                    elif member.name.startswith("archive/") and member.isfile():
                        packed = tar.extractfile(member)
                        assert packed is not None  # it is a file
                        yield from _archived(packed.read(), path, member.name)
                    reached = int(tar.offset)
                    if reached - cursor.offset >= SLICE_bytes:
                        yield ReadTo(Cursor(offset=reached), has_more=True)
                        return
        except (tarfile.TarError, EOFError) as problem:
            if not isinstance(problem, tarfile.ReadError) or cursor.offset == 0:
                yield Unreadable(str(path), 0, f"the backup is damaged: {problem}")
        yield ReadTo(Cursor(offset=file.seek(0, io.SEEK_END)))


def _archived(packed: bytes, path: Path, name: str) -> Iterator[Item]:
    try:
        spans, _ = frames.walk(packed, Path(name))
        num_bytes = sum(zstandard.get_frame_parameters(packed[start:end]).content_size for start, end in spans)
        if num_bytes > max(FREE_bytes, MAX_RATIO * len(packed)):
            yield Unreadable(str(path), 0, f"{name} unpacks to more than {MAX_RATIO:,} times its size")
            return
        yield from records_in(packed, Path(name))
    except ArchiveError as problem:
        yield Unreadable(str(path), 0, f"{name}: {str(problem).split('. ', 1)[0]}")


def _too_new(number: Any, path: Path) -> Unreadable | None:
    if isinstance(number, str):
        number = int(number) if number.isdecimal() else -1
    if number == exporting.FORMAT:
        return None
    return Unreadable(str(path), 0, "it was exported by a newer lmm; upgrade this one, then import it again")


def _fields(thread: Thread) -> dict[str, str]:
    found: dict[str, str] = orjson.loads(orjson.dumps(thread))
    return found
