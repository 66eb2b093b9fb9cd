"""The user's own sessions as what they show without anybody's labels: what was asked, and what was then done.

The archive is read session by session and nothing of it is kept here, so that a long history fits into memory. Files are
named as they lie in their project, wherever it was checked out, so that the same file is known again in another worktree.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import accumulate
from typing import TypeVar

from lmm_mcp.domain.event import Event, ThreadId
from lmm_mcp.domain.fence import without_fenced
from lmm_mcp.domain.project import NO_PROJECT, normalise_path, worktree_root
from lmm_mcp.recall.habits import outcome_of
from lmm_mcp.store.archive import Archive
from lmm_mcp.store.ledger import Ledger
from lmm_mcp.store.ledger_schema import ThreadRow

_CHANGES = re.compile(r"edit|write|patch|replace|create|insert|append|save", re.IGNORECASE)
_LOOKS = re.compile(r"^command: view\b", re.MULTILINE)
"""Some tools edit and show files under one name."""
_LOCK_FILE = re.compile(
    r"(?:^|/)(?:[\w.-]+\.lock|package-lock\.json|pnpm-lock\.yaml|bun\.lockb|go\.sum|npm-shrinkwrap\.json)$",
    re.IGNORECASE,
)
_IS_ABSOLUTE = re.compile(r"^(?:/|~|[a-zA-Z]:[/\\])")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Act:
    """One thing the agent did."""

    event_id: str
    thread_id: ThreadId
    at_ms: int
    files: tuple[str, ...]
    """Those it changed, as they lie in the project; lock files and files outside it left out."""
    command: str
    """The shell command, '' for another tool."""
    worked: bool | None
    """Whether it succeeded; None where that cannot be told."""
    text: str
    """What was asked of the tool: a command line, a patch, what was written."""
    said: str
    """What a failed one gave back, '' for others."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A prompt and what was done until the next one, sub-agents included."""

    id: str
    """Stands for the prompt and tells nothing of it."""
    prompt: str
    """Without what this memory itself had put into it."""
    at_ms: int
    acts: tuple[Act, ...]

    @property
    def files(self) -> frozenset[str]:
        """Files that were changed."""
        return frozenset(file for act in self.acts if act.worked is not False for file in act.files)


@dataclass(frozen=True, slots=True)
class Session:
    """One session with its sub-agents', as the ledger knows it."""

    agent: str
    id: str
    project: str
    rows: tuple[ThreadRow, ...]
    begins_ms: int
    """When it began, or the session did that it was forked from: it holds all of that. 0 unknown."""


def sessions(ledger: Ledger) -> list[Session]:
    """Every session in a project, the earliest first. What belongs to no project has no files that could be known again."""
    rows_of: dict[tuple[str, str], list[ThreadRow]] = defaultdict(list)
    for row in ledger.threads():
        rows_of[row.thread.agent, row.thread.session_id].append(row)
    began = {key: min((row.first_ms for row in rows if row.first_ms), default=0) for key, rows in rows_of.items()}
    found = []
    for (agent, session_id), rows in rows_of.items():
        project = next((row.project for row in rows if not row.thread.is_subagent), rows[0].project)
        if project == NO_PROJECT:
            continue
        begins = [began[agent, session_id]]
        seen, origin = {session_id}, next((row.thread.forked_from for row in rows if row.thread.forked_from), "")
        while origin and origin not in seen and (agent, origin) in rows_of:
            begins.append(began[agent, origin])
            seen.add(origin)
            origin = next((row.thread.forked_from for row in rows_of[agent, origin] if row.thread.forked_from), "")
        found.append(
            Session(agent, session_id, project, tuple(rows), 0 if 0 in begins else min(begins))
        )  # a source of unknown time may be as old as anything
    return sorted(found, key=lambda each: (each.begins_ms, each.agent, each.id))


def roots(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """Of every project the folders in which it was worked on."""
    found: dict[str, set[str]] = defaultdict(set)
    for folder, project in ledger.known_roots().items():
        found[project].add(normalise_path(folder))
    for row in ledger.threads():
        found[row.project].update([row.project] if _IS_ABSOLUTE.match(row.project) else [])
        if row.thread.cwd and not row.thread.is_subagent:
            found[row.project].add(normalise_path(row.thread.cwd))
    return {project: tuple(sorted(folders, key=len)) for project, folders in found.items()}


def turns(archive: Archive, session: Session, folders: Sequence[str]) -> list[Turn]:
    """What was asked in a session and then done. `folders`: those of its project. Raises ArchiveError on damage.

    What is not dated, and what a sub-agent was asked, is no prompt.
    """
    prompts: list[Event] = []
    acts: list[Act] = []
    for row in session.rows:
        kept = archive.read(row.thread.agent, row.thread.thread_id)
        events = [event for event in kept[1] if not event.ours] if kept else []
        if not row.thread.is_subagent:
            prompts += [event for event in events if event.kind == "prompt" and event.at_ms]
        acts += _acts(events, row, folders)
    prompts.sort(key=lambda event: event.at_ms)
    acts.sort(key=lambda act: act.at_ms)
    ends = [event.at_ms for event in prompts[1:]] + [1 << 62]
    return [
        Turn(
            blake2b(f"{session.agent}\x1f{prompt.id}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest(),
            without_fenced(prompt.text).strip(),
            prompt.at_ms,
            tuple(act for act in acts if prompt.at_ms <= act.at_ms < end),
        )
        for prompt, end in zip(prompts, ends, strict=False)
    ]


def _acts(events: Sequence[Event], row: ThreadRow, folders: Sequence[str]) -> list[Act]:
    results = {event.call_id: event for event in events if event.kind == "result" and event.call_id}
    found = []
    for call in events:
        if call.kind != "call":
            continue
        result = results.get(call.call_id)
        worked = outcome_of(result)
        cwd = call.cwd or row.thread.cwd
        named = (in_project(path, cwd, folders) for path in call.paths) if is_change(call) else ()
        said = result.text if result is not None and worked is False else ""
        files = tuple(dict.fromkeys(file for file in named if file and not _LOCK_FILE.search(file)))
        found.append(Act(call.id, row.thread.thread_id, call.at_ms, files, call.command, worked, call.text, said))
    return found


def is_change(call: Event) -> bool:
    """Whether a call changes the files that it names; reading them is not enough."""
    if not call.paths or call.command:
        return "*** Begin Patch" in call.text and bool(call.paths)
    tool = call.tool.rsplit("__", 1)[-1].rsplit(".", 1)[-1]
    return bool(_CHANGES.search(tool)) and not _LOOKS.search(call.text[:200])


def in_project(path: str, cwd: str, folders: Sequence[str]) -> str:
    """Name a file as it lies in its project; '' for one that lies outside. `folders`: where the project was worked on.

    >>> in_project("/home/ann/shop/src/till.py", "", ["/home/ann/shop", "/home/ann/shop/src"])
    'src/till.py'
    >>> in_project("till.py", "/home/ann/shop.worktrees/fix/src", ["/home/ann/shop"])
    'src/till.py'
    >>> in_project("/tmp/note.md", "/home/ann/shop", ["/home/ann/shop"])
    ''
    """
    if not _IS_ABSOLUTE.match(path):
        if not cwd:
            return normalise_path(path)
        path = f"{cwd}/{path}"
    whole = normalise_path(path)
    around = [folder for folder in folders if whole.startswith(f"{folder}/")]
    # A worktree may lie within the main folder, and is a checkout of its own; any other folder within it is a part of it.
    checkouts = [folder for folder in around if worktree_root(folder)]
    if not checkouts:
        above = accumulate(whole.split("/")[:-1], lambda folder, step: f"{folder}/{step}")
        checkouts = [folder for folder in above if worktree_root(folder)][:1]
    root = min(checkouts or around, key=len, default="")
    return whole[len(root) + 1 :] if root else ""


def names_of(files: Iterable[str]) -> dict[str, str]:
    """How each file must be named to be recognised: by its last step where no other file is called so, else by two.

    >>> names_of(["src/till.py", "src/index.ts", "web/index.ts"])
    {'src/till.py': 'till.py', 'src/index.ts': 'src/index.ts', 'web/index.ts': 'web/index.ts'}
    """
    files = list(dict.fromkeys(files))
    called: dict[str, int] = defaultdict(int)
    for file in files:
        called[file.rpartition("/")[2]] += 1
    return {
        file: last if called[last := file.rpartition("/")[2]] == 1 else "/".join(file.split("/")[-2:]) for file in files
    }


def stands_in(item: str, text: str) -> bool:
    """Whether a name or command stands in `text` as a whole, not as a part of a longer one. White space counts as one blank.

    >>> stands_in("till.py", "edit src/till.py:3"), stands_in("till.py", "still.py till.pyc"), stands_in("a  b", "a b")
    (True, False, True)
    """
    words = r"\s+".join(re.escape(word) for word in item.split())
    return bool(words) and re.search(rf"(?<![\w$-]){words}(?![\w$-]|\.\w)", text) is not None


def iso_ms(at_ms: int) -> str:
    """A moment as the recall tool takes it, to the millisecond.

    >>> iso_ms(1_772_000_000_007)
    '2026-02-25T06:13:20.007+00:00'
    """
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")


def spread(items: Iterable[_T], limit: int, *, ids: Callable[[_T], str], groups: Callable[[_T], Hashable]) -> list[_T]:
    """Choose `limit` items, as evenly as may be from all groups; the same ones whenever the items are the same.

    >>> spread(["a1", "a2", "a3", "b1"], 2, ids=str, groups=lambda item: item[0])
    ['a3', 'b1']
    """
    members: dict[Hashable, list[_T]] = defaultdict(list)
    for item in sorted(items, key=lambda item: lot(ids(item))):
        members[groups(item)].append(item)
    by_turns = sorted(
        ((n, lot(ids(item)), item) for each in members.values() for n, item in enumerate(each)),
        key=lambda place: place[:2],
    )
    return sorted((item for _, _, item in by_turns[:limit]), key=ids)


def lot(name: str) -> str:
    """A hash that stands for a name and tells nothing of it; to order by it is to draw lots, the same ones every time."""
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
