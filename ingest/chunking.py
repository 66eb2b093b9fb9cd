"""A turn in, chunks out: what was asked, said and done, cut to what one would want to find again.

Whole prose, command lines with their outcome, the changed lines of edits; of tool output only head, tail and the lines
that look like errors. Every line knows which characters of which archived event it came from. A long turn becomes several
parts; each repeats in its header what was asked, so that it can be found and understood by itself.
Raise CHUNKER_VERSION when anything here changes what a chunk holds: threads are then cut anew from the archive, and what says
the same as before keeps its id and its vectors.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ingest.session import ToolCall, Turn
from lmm_mcp.domain.chunk import Chunk, ChunkId, Line, Span, chunk_id, parted
from lmm_mcp.domain.event import Event, EventId, Thread

CHUNKER_VERSION = 2
MAX_PART_chars = 1200
"""About 250-300 tokens: what the embedder can see at once."""
GOOD_PART_chars = 500
"""A part this long is closed rather than filled up when a new piece of prose begins."""
MAX_LINE_chars = 480
MAX_ASKED_chars = 200
MAX_EDIT_lines = 40
MAX_OUTPUT_lines = 12
MAX_REPORT_lines = 60
"""Of a tool that answers in prose: a sub-agent's report, a person's answer, a fetched page."""
MAX_FILES = 8
MAX_COMMANDS = 6
MAX_COMMAND_chars = 300
MAX_NAMED_chars = 120
"""Of a command in the header."""

_ERROR = re.compile(
    r"\b(?:\w*error|errors|\w*exception|traceback|fail(?:ed|ure|s)?|fatal|panic(?:ked)?|denied|refused|not found|cannot|can't|could not|undefined|unexpected|invalid|missing|abort(?:ed)?|killed|segfault|timed? ?out|E\d{3,4})\b|✗|✘|❌",
    re.IGNORECASE,
)
_LOCK_FILE = re.compile(
    r"(?:^|/)(?:package-lock\.json|yarn\.lock|pnpm-lock\.yaml|bun\.lockb?|uv\.lock|poetry\.lock|Cargo\.lock|go\.sum|Gemfile\.lock|composer\.lock)$"
)
_BLOB = re.compile(r"[A-Za-z0-9+/=_-]{160,}")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？;:])\s+|(?<=[。！？])")
_READS_FILES = frozenset(
    {
        "read",
        "read_file",
        "view",
        "open",
        "edit",
        "multiedit",
        "write",
        "notebookedit",
        "apply_patch",
        "glob",
        "ls",
        "grep",
        "todowrite",
        "update_plan",
        "view_image",
        "list_dir",
    }
)
_RULER = re.compile(r"^[\s\-=_*#|+:.~`─━│┃┌└├]*$")


@dataclass(slots=True)
class _Piece:
    """Lines that belong together (one reply, one call with its result) with what the header says of them."""

    event: Event
    lines: list[Line]
    starts_prose: bool = False
    files: tuple[str, ...] = ()
    command: str = ""
    last_ms: int = 0
    num_chars: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_chars = sum(len(line.text) + 1 for line in self.lines)


@dataclass(slots=True)
class LastCut:
    """What a thread was cut into last time, so that one that grew is cut only where it grew. Never changes the result."""

    pieces: dict[EventId, tuple[Event | ToolCall, "_Piece"]] = field(default_factory=dict)
    chunks: dict[ChunkId, tuple[list["_Piece"], int, str, Chunk]] = field(default_factory=dict)
    """The pieces of each chunk, its place, and the words of its header that are not in them."""
    head: tuple[Thread, str] | None = None


def chunk_thread(thread: Thread, turns: Iterable[Turn], *, project: str, last: LastCut | None = None) -> list[Chunk]:
    """Cut a whole thread. Deterministic: the same turns give the same chunks, and a thread that grew keeps its first ones.

    `last`: of the same thread; it is brought up to date.
    """
    old = last if last is not None and last.head == (thread, project) else LastCut()
    new = LastCut(head=(thread, project))
    chunks: list[Chunk] = []
    for turn in turns:
        asked = _asked(turn)
        for part, pieces in enumerate(_parts(_pieces(turn, old, new))):
            name = chunk_id(thread.agent, turn.first_event.id, part)
            known = old.chunks.get(name)
            if known is not None and known[:3] == (pieces, len(chunks), asked):
                chunk = known[3]
            else:
                chunk = _chunk(thread, name, asked if part else "", part, len(chunks), pieces, project)
            new.chunks[name] = (pieces, len(chunks), asked, chunk)
            chunks.append(chunk)
    if last is not None:
        last.pieces, last.chunks, last.head = new.pieces, new.chunks, new.head
    return chunks


def _asked(turn: Turn) -> str:
    """The beginning of what was asked, on one line. Of a prompt of megabytes no more than that is looked at."""
    if turn.prompt is None:
        return ""
    return _cut(" ".join(turn.prompt.text.lstrip()[: 10 * MAX_ASKED_chars].split()), MAX_ASKED_chars)


def _pieces(turn: Turn, old: LastCut, new: LastCut) -> Iterator[_Piece]:
    if turn.prompt is not None:
        yield _remembered(turn.prompt, turn.thread, old, new)
    for step in turn.steps:
        yield _remembered(step, turn.thread, old, new)


def _remembered(step: Event | ToolCall, thread: Thread, old: LastCut, new: LastCut) -> _Piece:
    event_id = step.call.id if isinstance(step, ToolCall) else step.id
    known = old.pieces.get(event_id)
    piece = known[1] if known is not None and known[0] == step else _piece(step, thread)
    new.pieces[event_id] = (step, piece)
    return piece


def _piece(step: Event | ToolCall, thread: Thread) -> _Piece:
    if isinstance(step, ToolCall):
        return _call_piece(step)
    if step.kind == "result":
        return _Piece(step, _output(step, MAX_OUTPUT_lines))
    asker = "note" if thread.agent == "notes" else "user"
    role_of = {"prompt": asker, "reply": "agent", "thought": "thought", "summary": "summary"}
    return _Piece(step, list(_prose(step, role_of[step.kind])), starts_prose=step.kind in ("prompt", "reply"))


def _parts(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    part: list[_Piece] = []
    size = 0
    for piece in pieces:
        if not piece.lines and not piece.files and not piece.command:
            continue
        for fitting in _split(piece):
            full = size + fitting.num_chars > MAX_PART_chars
            if part and (full or (fitting.starts_prose and size >= GOOD_PART_chars)):
                yield part
                part, size = [], 0
            part.append(fitting)
            size += fitting.num_chars
    if any(piece.lines for piece in part):
        yield part


def _split(piece: _Piece) -> Iterator[_Piece]:
    if piece.num_chars <= MAX_PART_chars:
        yield piece
        return
    lines: list[Line] = []
    size = 0
    first = True
    for line in piece.lines:
        if lines and size + len(line.text) > MAX_PART_chars:
            yield _Piece(
                piece.event,
                lines,
                first and piece.starts_prose,
                piece.files,
                piece.command if first else "",
                piece.last_ms,
            )
            lines, size, first = [], 0, False
        lines.append(line)
        size += len(line.text) + 1
    yield _Piece(
        piece.event, lines, first and piece.starts_prose, piece.files, piece.command if first else "", piece.last_ms
    )


def _call_piece(step: ToolCall) -> _Piece:
    call, result = step.call, step.result
    tool = call.tool.rsplit("__", 1)[-1].rsplit(".", 1)[-1].lower()
    span = Span(call.id, 0, len(call.text))
    lines: list[Line] = []
    command = ""
    if call.command:
        command = f"{_cut(' '.join(call.command.split()), MAX_COMMAND_chars)}{_outcome(result)}"
        shown = _cut(call.command.strip(), MAX_LINE_chars * 2)
        lines.extend(Line("command", text, span) for text in _command_lines(shown, _outcome(result)))
    elif call.paths and "\n" in call.text and not all(_LOCK_FILE.search(path) for path in call.paths):
        lines.extend(_edit(call, _outcome(result)))
    elif tool not in _READS_FILES:
        lines.extend(
            Line("command" if n == 0 else "edit", text, found)
            for n, (text, found) in enumerate(_text_lines(call, f"{tool}: ", MAX_EDIT_lines, _outcome(result)))
        )
    if result is not None:
        if result.failed or call.command:
            lines.extend(_output(result, MAX_OUTPUT_lines))
        elif tool not in _READS_FILES:
            lines.extend(_output(result, MAX_REPORT_lines))
    return _Piece(call, lines, files=call.paths, command=command, last_ms=result.at_ms if result is not None else 0)


def _outcome(result: Event | None) -> str:
    if result is None:
        return ""
    if result.exit_code is not None:
        return f"  [exit {result.exit_code}]"
    return "  [failed]" if result.failed else ""


def _command_lines(command: str, outcome: str) -> list[str]:
    lines = [line.rstrip() for line in command.splitlines() if line.strip()][:MAX_OUTPUT_lines]
    if not lines:
        return []
    first = f"{_cut(f'$ {lines[0]}', MAX_LINE_chars - len(outcome))}{outcome}"
    return [first, *(_cut(line, MAX_LINE_chars) for line in lines[1:])]


def _edit(call: Event, outcome: str) -> Iterator[Line]:
    """The path with how it went, then the lines of the edit in their order."""
    name = call.paths[0] if call.paths else ""
    yield Line("path", f"{call.tool} {name}{outcome}", Span(call.id, 0, min(len(call.text), len(name))))
    num_lines = 0
    for text, span in _lines_with_spans(call.id, call.text):
        stripped = text.strip()
        if _RULER.match(stripped) or stripped == name or num_lines >= MAX_EDIT_lines or _BLOB.search(stripped):
            continue
        if stripped.startswith(("--- ", "+++ ", "@@", "*** Begin", "*** End")):
            continue
        num_lines += 1
        yield Line("edit", _cut(text.rstrip(), MAX_LINE_chars), span)


def _output(result: Event, max_lines: int) -> list[Line]:
    """Head, tail and error lines of a tool's output, in their order."""
    rows = [
        (text, span)
        for text, span in _lines_with_spans(result.id, result.text)
        if not _RULER.match(text) and not _BLOB.search(text)
    ]
    wrong = [n for n, (text, _) in enumerate(rows) if _ERROR.search(text)]
    if len(rows) <= max_lines:
        chosen = list(range(len(rows)))
    else:
        third = max_lines // 3
        head = list(range(third))
        tail = list(range(len(rows) - third, len(rows)))
        chosen = sorted({*head, *tail, *wrong[: max_lines - 2 * third]})
    marked = set(wrong) if result.failed or len(wrong) <= len(rows) // 2 else set()
    return [
        Line("error" if n in marked else "output", _cut(rows[n][0].strip(), MAX_LINE_chars), rows[n][1]) for n in chosen
    ]


def _prose(event: Event, role: str) -> Iterator[Line]:
    in_code = False
    for text, span in _lines_with_spans(event.id, event.text):
        if text.lstrip().startswith("```"):
            in_code = not in_code
            continue
        if _RULER.match(text) or _BLOB.search(text):
            continue
        if in_code or len(text) <= MAX_LINE_chars:
            yield Line(role, _cut(text.strip() if not in_code else text.rstrip(), MAX_LINE_chars), span)
            continue
        yield from _sentences(event.id, text, span.start, role)


def _sentences(event_id: str, text: str, start: int, role: str) -> Iterator[Line]:
    """Split a long paragraph at sentence ends, gathering short sentences up to a line's length."""
    at = 0
    begin = 0
    ends = [match.end() for match in _SENTENCE_END.finditer(text)] + [len(text)]
    for n, end in enumerate(ends):
        following = ends[n + 1] if n + 1 < len(ends) else None
        if following is None or following - begin > MAX_LINE_chars * 3 // 4:
            for cut in range(begin, end, MAX_LINE_chars):
                piece = text[cut : min(end, cut + MAX_LINE_chars)]
                if piece.strip():
                    yield Line(role, piece.strip(), Span(event_id, start + cut, start + cut + len(piece)))
            begin = end
        at = end
    assert at == len(text)


def _text_lines(event: Event, prefix: str, max_lines: int, outcome: str) -> Iterator[tuple[str, Span]]:
    for n, (text, span) in enumerate(_lines_with_spans(event.id, event.text)):
        if n >= max_lines:
            return
        if not _BLOB.search(text):
            before, after = (prefix, outcome) if n == 0 else ("", "")
            yield _cut(before + text.strip(), MAX_LINE_chars - len(after)) + after, span


def _lines_with_spans(event_id: str, text: str) -> Iterator[tuple[str, Span]]:
    at = 0
    for line in text.split("\n"):
        if line and not line.isspace():
            yield line, Span(event_id, at, at + len(line))
        at += len(line) + 1


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else text[: max_chars - 2] + " …"


def _short(command: str) -> str:
    """A command with its outcome, as the header names it."""
    run, outcome = parted(command)
    return _cut(run, MAX_NAMED_chars - len(outcome)) + outcome


def _chunk(
    thread: Thread, name: ChunkId, asked: str, part: int, ordinal: int, pieces: Sequence[_Piece], project: str
) -> Chunk:
    lines = tuple(line for piece in pieces for line in piece.lines)
    files = tuple(dict.fromkeys(path for piece in pieces for path in piece.files))[:MAX_FILES]
    commands = tuple(dict.fromkeys(piece.command for piece in pieces if piece.command))[:MAX_COMMANDS]
    times = [at for piece in pieces for at in (piece.event.at_ms, piece.last_ms) if at]
    first_ms, last_ms = (min(times), max(times)) if times else (0, 0)
    branch = next((piece.event.branch for piece in pieces if piece.event.branch), thread.branch)
    header = _header(thread, asked, project, branch, first_ms, files, commands)
    content = "\x1e".join(
        (
            thread.session_id,
            project,
            header,
            str(ordinal),
            str(last_ms),
            *(f"{line.role}\x1f{line.text}" for line in lines),
        )
    )
    return Chunk(
        id=name,
        agent=thread.agent,
        session_id=thread.session_id,
        thread_id=thread.thread_id,
        project=project,
        branch=branch,
        first_ms=first_ms,
        last_ms=last_ms,
        part=part,
        ordinal=ordinal,
        header=header,
        lines=lines,
        files=files,
        commands=commands,
        content_hash=hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest(),
    )


def _header(
    thread: Thread,
    asked: str,
    project: str,
    branch: str,
    first_ms: int,
    files: Sequence[str],
    commands: Sequence[str],
) -> str:
    day = datetime.fromtimestamp(first_ms / 1000, UTC).strftime("%Y-%m-%d") if first_ms else "undated"
    name = project.rsplit("/", 1)[-1] or "no project"
    rows = [" · ".join(filter(None, (name, branch, day, thread.agent + (" sub-agent" if thread.is_subagent else ""))))]
    if thread.title:
        rows.append(f"session: {_cut(' '.join(thread.title.split()), MAX_ASKED_chars)}")
    if asked:
        rows.append(f"asked: {asked}")
    if files:
        rows.append("files: " + ", ".join(files))
    if commands:
        rows.append("commands: " + "; ".join(map(_short, commands)))
    return "\n".join(rows)
