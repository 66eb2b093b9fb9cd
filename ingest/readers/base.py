"""What readers have in common, and JSON-lines files, tailed: a cursor goes in, decoded objects come out, and at the end where to read on.

Agents append to these files while we read them, die in the middle of a line, and now and then glue two records together.
So only lines that end in a newline are taken, nothing here raises for bad content, and what cannot be decoded is said
(`Unreadable`) with its line number, never with its text. Lines are split on bytes: a UTF-8 character never holds 0x0A.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson

from ingest.readers.opening import oddity, open_file
from ingest.session import Cursor, ReadTo, SourceFile, Unreadable
from lmm_mcp.domain.event import LAST_ms

MAX_LINE_bytes = 256 * 1024 * 1024
"""Longer lines are skipped. Real ones reach tens of MB (embedded images); this keeps a broken file from eating the memory."""

MAX_VALUES = 20_000_000
"""In one line or document. Each costs some seventy bytes of memory, however few it takes in the file: `[{},{},...`."""

SLICE_bytes = 4 * 1024 * 1024
"""A reading ends with the line that reaches this, and the next one goes on from there: a plain file of any size is read in bounded
memory, and what is more urgent need not wait for its end."""

_BLOCK_bytes = 1024 * 1024
_PADDING = b"\0 \t\r"
"""NULs are what a crashed machine leaves in place of data that never reached the disk, sometimes before a good record."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ONE_ms = timedelta(milliseconds=1)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_WINDOW_chars = 1000
_LONG_RUN_chars = 2 * _WINDOW_chars
_BASE64 = re.compile("[A-Za-z0-9+/]++={0,2}+")  # possessive: linear whatever it meets
_DECODER = json.JSONDecoder()


class FileReader(ABC):
    """What most readers are: each session file is one source, its sessions do not lie among the user's work."""

    agent: str
    lies_in_projects: bool = False

    def sources(self, path: Path) -> Iterator[SourceFile | Unreadable]:
        """The file itself. Raises OSError."""
        stat = path.stat()
        if odd := oddity(stat.st_mode):
            yield Unreadable(str(path), 0, f"is {odd} and no session file")
        else:
            yield SourceFile(self.agent, path, stat.st_size, stat.st_mtime_ns)

    def session_of(self, root: Path, path: Path) -> Path | None:
        """The file itself, where a look through its folder would find it. Readers of large trees know it by its name."""
        return path if path in self.discover(root) else None

    @abstractmethod
    def discover(self, root: Path) -> Iterator[Path]:
        """See `ingest.session.Reader`."""


class Bytes(Protocol):
    """What lines are read from: a file, a decompressing stream."""

    def read(self, num_bytes: int, /) -> bytes | None:
        """Return at most `num_bytes`, nothing at the end."""
        ...


Decoded = tuple[int, dict[str, Any]] | Unreadable | ReadTo
"""(1-based line number, JSON object), a line that could not be read, or, last of all, where the next reading starts."""


def json_lines(
    path: Path,
    cursor: Cursor,
    *,
    final: bool = False,
    max_line_bytes: int = MAX_LINE_bytes,
    slice_bytes: int | None = None,
) -> Iterator[Decoded]:
    """Decode the complete lines of `path` behind `cursor`. The last item is a ReadTo with the context of `cursor`.

    `final`: the file will never grow, so a last line without a newline is read too. `slice_bytes`: how much is enough for
    one reading; None = all there is. Raises OSError (a directory, missing rights, no such file); a file that shrinks
    meanwhile ends early.
    """
    # Our own blocks are larger than Python's buffer would be, so a buffer would only copy.
    with open_file(path) as stream:
        if cursor.offset:
            stream.seek(cursor.offset)
        yield from json_lines_of(
            stream, path, cursor, final=final, max_line_bytes=max_line_bytes, slice_bytes=slice_bytes
        )


def json_lines_of(
    stream: Bytes,
    path: Path,
    cursor: Cursor,
    *,
    final: bool = False,
    max_line_bytes: int = MAX_LINE_bytes,
    slice_bytes: int | None = None,
) -> Iterator[Decoded]:
    """Decode the complete lines of `stream`, which already stands at `cursor.offset`.

    `path` only names the place in Unreadable. Otherwise as `json_lines`.
    """
    offset, line_number, has_more = cursor.offset, cursor.line, False
    for line, num_bytes, ended in _lines(stream, max_line_bytes):
        if slice_bytes is not None and offset - cursor.offset >= slice_bytes:
            has_more = True
            break
        if not (ended or final):
            # Torn: still being written. But no beginning of an object is itself an object, so one that is whole is taken
            # (many agents never write their last newline); the newline, when it comes, completes the line's count.
            if (whole := _whole_object(line)) is not None:
                yield line_number + 1, whole
                offset += num_bytes
            break
        offset += num_bytes
        line_number += 1
        if line is None:
            yield Unreadable(str(path), line_number, f"line of {num_bytes:,} bytes is longer than {max_line_bytes:,}")
            continue
        line = line.strip(_PADDING)
        if not line:
            continue
        if has_too_many_values(line):
            yield Unreadable(str(path), line_number, f"line of more than {MAX_VALUES:,} values")
            continue
        try:
            found = orjson.loads(line)
        except orjson.JSONDecodeError:
            for item in _decode_patiently(line):
                yield Unreadable(str(path), line_number, item) if isinstance(item, str) else (line_number, item)
            continue
        if isinstance(found, dict):
            yield line_number, found
        else:
            yield Unreadable(str(path), line_number, f"not a JSON object but a {type(found).__name__}")
    yield ReadTo(Cursor(offset=offset, line=line_number, context=cursor.context), has_more)


def has_too_many_values(content: bytes) -> bool:
    """Whether JSON would fill the memory once it is decoded. Commas within texts count too: in sessions they are few."""
    return len(content) > MAX_VALUES and content.count(b",") + content.count(b"[") + content.count(b"{") > MAX_VALUES


def _whole_object(line: bytes | None) -> dict[str, Any] | None:
    if line is None or has_too_many_values(line):
        return None
    try:
        found = orjson.loads(line.strip(_PADDING))
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def prefix_hash(path: Path, num_bytes: int = 4096) -> str:
    """Hash the first `num_bytes` (fewer if the file is shorter), to notice a file that was rewritten. Raises OSError."""
    with open_file(path) as stream:
        return hashlib.blake2b(stream.read(num_bytes), digest_size=16).hexdigest()


def parse_time_ms(value: object) -> int:
    """Milliseconds since 1970 UTC of an ISO-8601 text (no zone = UTC) or of epoch seconds or milliseconds; 0 = unknown.

    Whatever it is given, the answer lies in 0..LAST_ms.

    >>> parse_time_ms("2026-03-01T12:00:00.250Z")
    1772366400250
    >>> parse_time_ms(1772366400) == parse_time_ms(1772366400000) == parse_time_ms("2026-03-01T13:00:00+01:00")
    True
    >>> parse_time_ms("yesterday")
    0
    """
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return _plausible((moment - _EPOCH) // _ONE_ms)
        except (ValueError, OverflowError):
            return 0
    # Compared before it is counted with: NaN is refused by that, and an integer may be too long for any arithmetic.
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= LAST_ms:
        # 1e11 as seconds is the year 5138, as milliseconds 1973.
        return _plausible(int(value) if value >= 1e11 else int(value * 1000))
    return 0


def _plausible(at_ms: int) -> int:
    return at_ms if 0 <= at_ms <= LAST_ms else 0


def without_base64(text: str) -> str:
    """Replace runs of 2,000 or more base64 characters (images, archives, keys in a dump) by a note of their length.

    >>> without_base64("a picture: " + "iVBORw0KGgo" * 300 + "==")
    'a picture: [base64, 3,302 characters]'
    """
    # A run of 2 x 1,000 characters covers one whole window of 1,000, so that ordinary text costs next to nothing.
    for start in range(0, len(text) - _WINDOW_chars + 1, _WINDOW_chars):
        if _BASE64.fullmatch(text, start, start + _WINDOW_chars):
            break
    else:
        return text
    return _BASE64.sub(lambda run: run.group() if len(run.group()) < _LONG_RUN_chars else _note(run.group()), text)


def _note(run: str) -> str:
    return f"[base64, {len(run):,} characters]"


def _lines(stream: Bytes, max_line_bytes: int) -> Iterator[tuple[bytes | None, int, bool]]:
    """Split into (line without newline or None where too long, bytes with newline, whether it ended in a newline)."""
    pieces: list[bytes] = []  # of a line that began in an earlier block
    num_held = 0
    while block := stream.read(_BLOCK_bytes):
        head, *rest = block.split(b"\n")
        num_held += len(head)
        pieces.append(head)
        if rest:
            yield (b"".join(pieces) if num_held <= max_line_bytes else None), num_held + 1, True
            for line in rest[:-1]:
                yield (line if len(line) <= max_line_bytes else None), len(line) + 1, True
            pieces, num_held = [rest[-1]], len(rest[-1])
        if num_held > max_line_bytes:
            pieces.clear()  # only its length is still of interest
    if num_held:
        yield (b"".join(pieces) if num_held <= max_line_bytes else None), num_held, False


def _decode_patiently(line: bytes) -> Iterator[dict[str, Any] | str]:
    """Decode what a strict parser refuses: objects glued together, invalid UTF-8, lone surrogates. A problem is a str."""
    text = line.decode("utf-8", "replace").lstrip("\ufeff")
    at = 0
    while at < len(text):
        try:
            found, at = _DECODER.raw_decode(text, at)
            found = without_lone_surrogates(found)
        except (ValueError, RecursionError) as problem:
            reason = problem.msg if isinstance(problem, json.JSONDecodeError) else type(problem).__name__
            yield f"not JSON from character {at + 1:,} of {len(text):,}: {reason}"
            return
        if isinstance(found, dict):
            yield found
        else:
            yield f"not a JSON object but a {type(found).__name__}"
        while at < len(text) and text[at] in " \t\r\0":
            at += 1


def without_lone_surrogates(value: Any) -> Any:
    """A JSON value without halves of characters."""
    # Half an emoji, cut by a length limit of some tool: JSON may say it, UTF-8 cannot, so no later station could write it.
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {without_lone_surrogates(key): without_lone_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_lone_surrogates(inner) for inner in value]
    return value
