"""Steps of a session in, errors with what mended them out: a command failed, something was changed, the command succeeded.

Only where one thing was changed between the two is it known what helped: a few lines of one file, or one other command.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ingest.procedures import procedures
from ingest.session import ToolCall
from lmm_mcp.domain.event import Event
from lmm_mcp.recall import habits

MAX_STEPS = 24
"""Calls between a failure and the success that ends it: beyond that, too much has happened."""
MAX_LINE_chars = 200
_MAX_ADDED = 12
_ERROR = re.compile(
    r"^\s*(?:(?:E  +)?(?:[\w.]*(?:Error|Exception)\b: \S|AssertionError)|(?:error|fatal|panic)(?:\[\w+\])?: \S|npm ERR! \S"
    r"|(?:\[[\w:-]+\] )?[\w./@+-]+\.\w{1,6}(?::\d+:\d+|\(\d+,\d+\)):? +\S|.{0,60}: (?:error|fatal error)\b.{5}"
    r"|.*\b(?:cannot find|could not (?:find|resolve)|not found|is not (?:defined|assignable|a function)|undefined:|No module named|unresolved import|does not exist|permission denied)\b)",
    re.IGNORECASE,
)
_DULL = re.compile(
    r"\b(?:exit(?:ed)? (?:code|status|with)|ELIFECYCLE|command failed|\d+ (?:failed|errors?)\b|tests? failed|Process completed|All fail|expect\(|dangling process|task failed|unchanged)\b",
    re.IGNORECASE,
)
_WORDS = re.compile(r"[A-Za-z_]\w{2,}")


@dataclass(frozen=True, slots=True)
class Repair:
    """An error, and what was changed before the same command succeeded."""

    command: str
    error: str
    error_event: Event
    error_at: int
    """Where the error's line begins in the output."""
    fix: str
    fix_event: Event
    fix_at: int
    fix_role: str
    """`edit` or `command`."""
    file: str
    """Base name of the file that was changed, '' for a command."""


def repairs(steps: Sequence[ToolCall]) -> Iterator[Repair]:
    """The repairs in the calls of one thread, in order; each failure is mended once."""
    lines = [_what_is_run(each.call.command) for each in steps]
    for number, (each, line) in enumerate(zip(steps, lines, strict=True)):
        if not line or each.result is None or habits.outcome_of(each.result) is not False:
            continue
        for later in range(number + 1, min(len(steps), number + 1 + MAX_STEPS)):
            if lines[later] != line:
                continue
            if habits.outcome_of(steps[later].result) is True:
                found = _between(line, each.result, steps[number + 1 : later])
                if found is not None:
                    yield found
            break  # it succeeded, or failed again: that failure has its own way out


def _between(line: str, failed: Event, steps: Sequence[ToolCall]) -> Repair | None:
    error = _error_in(failed.text)
    if error is None:
        return None
    edits = [each.call for each in steps if _added(each.call)]
    files = {path for edit in edits for path in edit.paths}
    commands = [each.call for each in steps if each.call.command and habits.plain_command(each.call.command)]
    if len(files) == 1 and len(edits) <= 3:
        best = _closest(edits, f"{error[0]} {line}")
        if best is None:
            return None
        value, call = best
        name = next(iter(files)).replace("\\", "/").rsplit("/", 1)[-1]
        return Repair(line, *error[:1], failed, error[1], value, call, call.text.index(value), "edit", name)
    if not edits and len(commands) == 1 and _changes_something(commands[0].command):
        value = habits.plain_command(commands[0].command)
        if value in commands[0].text:
            return Repair(
                line, error[0], failed, error[1], value, commands[0], commands[0].text.index(value), "command", ""
            )
    return None


def _what_is_run(command: str) -> str:
    """A command without its flags: who tries again asks for more or less to be printed."""
    plain = habits.plain_command(command) if command else ""
    return " ".join(word for word in plain.split() if not word.startswith("-") and word != "rtk")


def _error_in(text: str) -> tuple[str, int] | None:
    """The line of an output that says what went wrong, and where it begins."""
    at = 0
    for line in text[:40_000].split("\n"):
        said = line.strip()
        if len(said) >= 12 and _ERROR.match(line[:400]) and not _DULL.search(said) and "REDACTED" not in said:
            return said[:MAX_LINE_chars].rstrip(), at + line.index(said)
        at += len(line) + 1
    return None


def _added(call: Event) -> list[str]:
    """The lines that an edit of a file adds; none for what is no edit, or too large to be one remedy."""
    if not call.paths or call.command:
        return []
    found = [
        line[1:].strip() for line in call.text.split("\n")[1:] if line.startswith("+") and not line.startswith("+++")
    ]
    found = [line for line in found if len(line) >= 8 and _WORDS.search(line)]
    return found if len(found) <= _MAX_ADDED else []


def _closest(edits: Sequence[Event], error: str) -> tuple[str, Event] | None:
    """The added line that shares most words with the error; None where none shares any: it mended something else."""
    wanted = {word.lower() for word in _WORDS.findall(error)}
    lines = [(line, edit) for edit in edits for line in _added(edit) if len(line) <= MAX_LINE_chars]
    scored = [(len(wanted & {word.lower() for word in _WORDS.findall(line)}), line, edit) for line, edit in lines]
    best = max(scored, key=lambda each: each[0], default=None)
    return None if best is None or best[0] == 0 else best[1:]


def _changes_something(command: str) -> bool:
    """Whether a command is a step that may mend another, and not itself a check."""
    kinds = {relation for relation, *_ in procedures(command, folder="")}
    return not kinds or "package manager" in kinds or "build command" in kinds
