"""What a tool gave back: its output without the frame, whether it failed, and output that was kept in a file beside it."""

import os
import re
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ingest.readers.claude_calls import SHELLS
from ingest.readers.claude_prompts import between, without_blocks
from ingest.readers.opening import open_file
from ingest.readers.values import exit_code_in

MAX_SIDE_FILE_bytes = 1024 * 1024
"""Of a longer side file the head and the tail are read, half of this each."""

_EXIT_CODE = re.compile(r"(?:Error: )?Exit code (-?[0-9]+)(?:\n|$)")
_SAVED_TO = re.compile(r"saved to: ([^\n]+)")
_PERSISTED = "<persisted-output>"
_NO_OUTPUT = "(Bash completed with no output)"
_MAX_ANSWERS = 64
"""An agent asks a handful of questions at once; each answer is sought in the whole text."""
_REJECTIONS = ("The user doesn't want to", "[Request interrupted by user")


class Outcome(NamedTuple):
    """A tool's output and how it went."""

    text: str
    exit_code: int | None
    failed: bool | None


def outcome_of(text: str, structured: object, *, is_error: object, tool: str) -> Outcome:
    """Understand the `text` of a tool_result with its `structured` twin (`toolUseResult`), of which little is used.

    The exit code stands in words at the beginning of a failure; a shell that did not fail exited with 0, unless it runs on
    in the background, was interrupted, or its code was one that only looks like a failure (`grep` without a match).
    """
    text = without_blocks(text, "system-reminder")
    twin = structured if isinstance(structured, str) else ""
    details = structured if isinstance(structured, dict) else {}
    if text.startswith("<tool_use_error>"):
        text, is_error = between(text, "tool_use_error"), True
    failed: bool | None = is_error is True or twin.startswith("Error:") or text.startswith(_REJECTIONS)
    exit_code: int | None = None
    if failed:
        if said := _EXIT_CODE.match(text):
            exit_code, text = exit_code_in(said[1]), text[said.end() :]
        elif said := _EXIT_CODE.match(twin):
            exit_code = exit_code_in(said[1])
    elif tool in SHELLS and not any(
        details.get(key) for key in ("interrupted", "backgroundTaskId", "returnCodeInterpretation")
    ):
        exit_code = 0
    if not failed and details.get("interrupted") is True:
        failed = None
    if text == _NO_OUTPUT:
        text = ""
    return Outcome(_with_answers(text, details), exit_code, failed)


def persisted_name(text: str) -> str:
    """Return the name of the side file that holds the whole of a long output, '' if `text` is the output itself."""
    if not text.lstrip().startswith(_PERSISTED):
        return ""
    found = _SAVED_TO.search(text)
    # The path was true on the machine that wrote it, perhaps with other separators; here only its last part counts.
    return re.split(r"[/\\]", found[1].strip())[-1] if found else ""


def persisted_output(session_file: Path, name: str) -> str | None:
    """Read a side file of the session that `session_file` belongs to; None where it is missing or lies elsewhere.

    A transcript is text that others had a hand in: whatever it names, nothing outside `tool-results` is opened.
    """
    try:
        folder = _session_folder(session_file).resolve() / "tool-results"
        wanted = (folder / name).resolve()
        if wanted.parent != folder:
            return None
        with open_file(wanted) as file, BufferedReader(file) as stream:
            size = os.fstat(file.fileno()).st_size
            if size <= MAX_SIDE_FILE_bytes:
                return stream.read(MAX_SIDE_FILE_bytes).decode("utf-8", "replace")
            half = MAX_SIDE_FILE_bytes // 2
            head = stream.read(half)
            stream.seek(size - half)
            left_out = f"\n[... {size - 2 * half:,} bytes left out ...]\n"
            return head.decode("utf-8", "replace") + left_out + stream.read(half).decode("utf-8", "replace")
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None


def _session_folder(session_file: Path) -> Path:
    for folder in session_file.parents:
        if folder.name == "subagents":
            return folder.parent
    return session_file.with_suffix("")


def _with_answers(text: str, details: dict[str, Any]) -> str:
    answers = details.get("answers")
    if not isinstance(answers, dict):
        return text
    missing = [
        f"{question} {answer}" for question, answer in islice(answers.items(), _MAX_ANSWERS) if str(answer) not in text
    ]
    return "\n".join(part for part in (text, *missing) if part)
