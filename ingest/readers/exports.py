"""Exports of chat services: a JSON file of conversations, one or several in a zip, in; one conversation after the other out.

An export of some years is hundreds of megabytes in one array. It is read in slices of whole conversations, each decoded by
itself; where the next one starts stands in the cursor. Of a zip only members named like conversations are opened.
"""

import io
import re
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Protocol

from ingest.readers.base import FileReader, MAX_LINE_bytes
from ingest.readers.documents import json_value
from ingest.readers.opening import open_file
from ingest.readers.transcript import Transcript
from ingest.readers.values import ODDITIES
from ingest.session import Cursor, Item, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import Thread

SLICE_bytes = 16 * 1024 * 1024
"""Of conversations; a zip must be unpacked anew up to where a slice begins, so there should not be many."""
MAX_RATIO = 100
"""Conversations shrink to a fifth. What unpacks to so many times its size was made to keep a machine busy,"""
FREE_bytes = 256 * 1024 * 1024
"""unless it is small even so."""
_NAME = re.compile(r"conversations(?:[-_]\d+)?\.json", re.IGNORECASE)
_BLOCK_bytes = 1024 * 1024
_FIRST_bytes = 64 * 1024
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OverflowError)
"""What a zip raises that is damaged, encrypted or packed in a way that is not known."""
_TOKEN = re.compile(rb'["{}\[\]]')
_WITHIN_STRING = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


class Bytes(Protocol):
    """What is read from."""

    def read(self, num_bytes: int, /) -> bytes | None:
        """Return at most `num_bytes`, nothing at the end."""
        ...


class ExportReader(FileReader):
    """Reads one service's exports. They have no place of their own."""

    key: ClassVar[re.Pattern[bytes]]
    """A field that every conversation of this service begins with, and no other's has."""

    @abstractmethod
    def conversation(self, found: Mapping[str, Any]) -> tuple["Conversation", Iterable[Mapping[str, Any]]]:
        """One conversation: what takes its messages, and the messages in order. May raise any of ODDITIES."""

    def roots(self, env: Mapping[str, str], extra: Sequence[Path]) -> tuple[Path, ...]:  # noqa: ARG002 - the protocol
        """The files and folders named."""
        return tuple(dict.fromkeys(extra))

    def discover(self, root: Path) -> Iterator[Path]:
        """Exports in a folder, packed or unpacked, or in folders in it; or the file itself."""
        if root.is_file():
            yield root
        elif root.is_dir():
            for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
                yield from (path for path in sorted(folder.iterdir()) if _is_named(path) and self.claims(path))

    def session_of(self, root: Path, path: Path) -> Path | None:
        """An export speaks for itself."""
        is_near = path == root or path.parent == root or path.parent.parent == root
        return path if is_near and _is_named(path) else None

    def claims(self, path: Path) -> bool:
        """Whether the first conversation in it is one of this service."""
        if path.suffix.lower() not in (".json", ".zip") or not path.is_file():
            return False
        try:
            with _opened(path) as parts:
                head = parts[0].head() if parts else b""
        except (OSError, *_DAMAGED):
            return False
        return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{") and self.key.search(head) is not None

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """The export, unless it holds another service's conversations under the same name. Raises OSError."""
        if not _is_named(path) or not path.is_file() or self.claims(path):
            yield from super().sources(path)

    def read(self, path: Path, cursor: Cursor) -> Iterator[Item]:
        """Yield the next slice of conversations."""
        size = path.stat().st_size
        noted: dict[str, int] = dict(cursor.context.get("unknown", {}))
        part, at, num_told = cursor.context.get("part", 0), cursor.context.get("at", 0), cursor.line
        try:
            with _opened(path) as parts:
                for number in range(part, len(parts)):
                    with parts[number].opened() as stream:
                        for element in _elements(stream, at):
                            if element.start - at >= SLICE_bytes:
                                context = {"part": number, "at": element.start, "unknown": noted}
                                yield ReadTo(Cursor(min(num_told, size), num_told, context), has_more=True)
                                return
                            yield from self._told(element.content, path, noted)
                            num_told += 1
                    at = 0
        except _DAMAGED as problem:
            _note(noted, f"a zip that cannot be unpacked ({type(problem).__name__})")
        for what, num_times in noted.items():
            yield Unreadable(str(path), 0, f"{what} ({num_times:,} times)")
        yield ReadTo(Cursor())

    def _told(self, content: bytes | None, path: Path, noted: dict[str, int]) -> Iterator[Item]:
        if content is None:
            _note(noted, f"a conversation longer than {MAX_LINE_bytes:,} bytes")
            return
        found = json_value(content, path)
        if not isinstance(found, Mapping):
            _note(noted, "a conversation that is not JSON" if isinstance(found, Unreadable) else "no conversation")
            return
        several = found.get("conversations")
        for each in several if isinstance(several, list) else [found]:
            try:
                talk, shown = self.conversation(each)
                messages = list(shown)
            except ODDITIES as problem:
                _note(noted, f"a conversation that is not built as expected ({type(problem).__name__})")
                continue
            yield from talk.told(messages, noted)


class Conversation(Transcript):
    """One conversation while it is read."""

    def told(self, messages: Iterable[Mapping[str, Any]], noted: dict[str, int]) -> Iterator[Item]:
        """The thread and its events; what is not understood is counted in `noted`, for the whole export."""
        self.unknown = noted
        said: Thread | None = None
        for message in messages:
            self.at_ms, self.group = 0, ""
            try:
                for event in self.take(message):
                    if said is None:
                        said = self.thread
                        yield said
                    yield event
            except ODDITIES as problem:
                _note(noted, f"a message that is not built as expected ({type(problem).__name__})")


def _note(noted: dict[str, int], what: str) -> None:
    noted[what] = noted.get(what, 0) + 1


def _is_named(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None or path.suffix.lower() == ".zip"


# Files, packed or not ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """One file of conversations."""

    file: io.FileIO
    archive: zipfile.ZipFile | None = None
    member: str = ""

    @contextmanager
    def opened(self) -> Iterator[Bytes]:
        """Its bytes, from the beginning."""
        if self.archive is None:
            self.file.seek(0)
            yield self.file
        else:
            with self.archive.open(self.member) as stream:
                yield stream

    def head(self) -> bytes:
        """Its first bytes."""
        with self.opened() as stream:
            return stream.read(_FIRST_bytes) or b""


@contextmanager
def _opened(path: Path) -> Iterator[list[_Part]]:
    """The files of conversations that an export holds. Raises OSError, and what `_DAMAGED` names."""
    with open_file(path) as file:
        if path.suffix.lower() != ".zip":
            yield [_Part(file)]
            return
        with zipfile.ZipFile(file) as archive:
            members = [each for each in archive.infolist() if _NAME.fullmatch(PurePosixPath(each.filename).name)]
            # What is said here is the most that will be unpacked.
            if any(each.file_size > max(FREE_bytes, MAX_RATIO * each.compress_size) for each in members):
                raise zipfile.BadZipFile(f"it unpacks to more than {MAX_RATIO} times its size")
            yield [_Part(file, archive, name) for name in sorted(each.filename for each in members)]


@dataclass(frozen=True, slots=True)
class _Element:
    """One value of the outermost array, or the one value that there is."""

    start: int
    """Bytes before it, in its file."""
    content: bytes | None
    """None where it is too long."""


def _elements(stream: Bytes, at: int) -> Iterator[_Element]:
    """Values in the array that `stream` holds, from byte `at` on: 0, or where one begins. Each is held alone."""
    _skip(stream, at)
    depth = 1 if at else 0
    outer = 1 if at else 0  # depth at which values are told: within an array, or where there is none
    in_string = is_escaped = False
    start: int | None = None
    pieces: list[bytes] = []
    num_held = 0
    offset = at
    while block := stream.read(_BLOCK_bytes):
        position = piece = 0
        while position < len(block):
            if is_escaped:
                is_escaped, position = False, position + 1
                continue
            if in_string:
                within = _WITHIN_STRING.match(block, position)
                position = len(block) if within is None else within.end()
                # Here is the quote that ends it, a backslash that the next block goes on with, or the end of the block.
                in_string = block[position : position + 1] != b'"'
                is_escaped = in_string and position < len(block)
                position += 1
                continue
            token = _TOKEN.search(block, position)
            if token is None:
                break
            position = token.end()
            sign = token[0]
            if sign == b'"':
                in_string = True
            elif sign in b"{[":
                if depth == 0 and sign == b"[" and start is None:
                    outer = 1
                elif depth == outer and start is None:
                    start, piece, pieces, num_held = offset + token.start(), token.start(), [], 0
                depth += 1
            else:
                depth -= 1
                if depth == outer and start is not None:
                    pieces.append(block[piece:position])
                    num_held += position - piece
                    yield _Element(start, b"".join(pieces) if num_held <= MAX_LINE_bytes else None)
                    start = None
                if depth < outer or depth == 0:
                    return
        if start is not None:
            num_held += len(block) - piece
            pieces.append(block[piece:])
            if num_held > MAX_LINE_bytes:
                pieces.clear()
        offset += len(block)
    if start is not None:  # cut off: whoever decodes it says so
        yield _Element(start, b"".join(pieces) if num_held <= MAX_LINE_bytes else None)


def _skip(stream: Bytes, num_bytes: int) -> None:
    while num_bytes > 0 and (block := stream.read(min(num_bytes, _BLOCK_bytes))):
        num_bytes -= len(block)
