"""Where each file of the corpus would lie in a home folder, as its agent keeps it.

The manifest says it for some; for the others the rules below do, by the agent and the end of the stored path. What has no place of
its own (exports, single documents, databases beside the one that counts) lies under `imports`, to be named by the user.
"""

import csv
import json
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

AGENT_OF = {
    "chatgpt-export": "chatgpt",
    "claude-ai-export": "claude-ai",
    "codex-exec-stream": "codex",
    "specstory-md": "specstory",
    "omp": "pi",
    "openclaw": "pi",
}
"""The corpus' name -> the reader's, where they differ."""
IMPORTS, WORK = "imports", "work"
"""Folders that the user names: files without a place of their own, and repositories with an agent's store in them."""
_EDITOR, _OTHER_EDITOR = ".config/Code/User", ".config/VSCodium/User"

_RULES = (
    # agent, end of the stored path, where it lies; {n}: a number of its own for each folder
    ("claude-code", r"(?P<name>[^/]+\.jsonl)", ".claude/projects/-corpus-{n}/{name}"),
    ("codex", r"archived_sessions/(?P<name>[^/]+)", ".codex/archived_sessions/{name}"),
    ("codex", r"(?P<name>rollout-(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)[^/]+)", ".codex/sessions/{y}/{m}/{d}/{name}"),
    ("codex", r"(?P<name>history\.jsonl)", ".codex/{name}"),
    ("codex-exec-stream", r"(?P<name>[^/]+)", IMPORTS + "/codex/{name}"),
    ("gemini-cli", r"(?P<name>projects\.json|tmp/.+)", ".gemini/{name}"),
    ("gemini-cli", r"/(?P<name>session[^/]*)", ".gemini/tmp/fixtures/chats/session-{n}-{name}"),
    ("opencode", r"/registry/opencode/(?P<name>opencode\.db)", IMPORTS + "/opencode/{n}/{name}"),
    ("opencode", r"/opencode/(?P<name>opencode\.db|storage/.+)", ".local/share/opencode/{name}"),
    ("opencode", r"/(?P<name>full\.jsonl)", IMPORTS + "/opencode/{n}/{name}"),
    ("cursor", r"/(?P<name>User/.+)", ".config/Cursor/{name}"),
    ("cursor", r"/(?P<name>projects/.+)", ".cursor/{name}"),
    ("copilot-cli", r"/(?P<name>[0-9a-f-]{36}/events\.jsonl)", ".copilot/session-state/{name}"),
    ("cline", r"/(?P<name>saoudrizwan\.claude-dev/.+)", _EDITOR + "/globalStorage/{name}"),
    ("cline", r"/legacy/(?P<name>.+)", _OTHER_EDITOR + "/globalStorage/saoudrizwan.claude-dev/{name}"),
    ("cline", r"/modern/(?P<name>.+)", ".cline/data/{name}"),
    ("roo", r"/(?P<name>rooveterinaryinc\.roo-cline/.+)", _EDITOR + "/globalStorage/{name}"),
    ("roo", r"/(?P<name>tasks/.+)", _OTHER_EDITOR + "/globalStorage/rooveterinaryinc.roo-cline/{name}"),
    ("kilo-legacy", r"/(?P<name>kilocode\.kilo-code/.+)", _EDITOR + "/globalStorage/{name}"),
    ("continue", r"/(?P<name>sessions/.+)", ".continue/{name}"),
    ("aider", r"/(?P<name>[^/]+\.md)", WORK + "/aider-{n}/{name}"),
    ("goose", r"/(?P<name>sessions/(?:sessions\.db|[^/]+\.jsonl))", ".local/share/goose/{name}"),
    ("goose", r"/(?P<name>goose\.db)", IMPORTS + "/goose/{name}"),
    ("factory-droid", r"/(?P<name>sessions/.+)", ".factory/{name}"),
    ("qwen-code", r"/(?P<name>projects/.+)", ".qwen/{name}"),
    ("qwen-code", r"/(?P<name>[^/]+\.jsonl)", ".qwen/projects/-corpus-{n}/chats/{name}"),
    ("crush", r"/(?P<name>crush\.db(?:-wal)?)", WORK + "/crush-{n}/.crush/{name}"),
    ("zed", r"/(?P<name>threads\.db)", ".local/share/zed/threads/{name}"),
    ("zed", r"/(?P<name>zed\.db)", IMPORTS + "/zed/{name}"),
    ("kiro", r"/(?P<name>kiro-cli/data\.sqlite3)", ".local/share/{name}"),
    ("pi", r"/(?P<name>[^/]+\.jsonl)", ".pi/agent/sessions/--corpus-{n}--/{name}"),
    ("omp", r"/(?P<name>[^/]+\.jsonl)", ".omp/agent/sessions/--corpus-{n}--/{name}"),
    ("openclaw", r"/(?P<name>agents/.+)", ".openclaw/{name}"),
    ("openhands", r"/(?P<name>conversations/.+)", ".openhands/{name}"),
    ("swe-agent", r"/(?P<name>[^/]+\.traj)", IMPORTS + "/swe-agent/{n}/{name}"),
    ("vscode-copilot", r"/User/(?P<name>.+)", _EDITOR + "/{name}"),
    ("vscode-copilot", r"/(?P<name>[^/]+)\.json", _EDITOR + "/globalStorage/emptyWindowChatSessions/{session}.json"),
    ("amp", r"/(?P<name>threads/T-.+)", ".local/share/amp/{name}"),
    ("antigravity", r"/(?P<name>brain/.+)", ".gemini/antigravity/{name}"),
    ("deepseek", r"/(?P<name>sessions/.+)", ".dsh/{name}"),
    ("grok", r"/(?P<name>sessions/.+)", ".grok/{name}"),
    ("kimi", r"/(?P<name>sessions/.+)", ".kimi-code/{name}"),
    ("hermes", r"/(?P<name>profiles/.+\.db)", ".hermes/{name}"),
    ("hermes", r"/(?P<name>[^/]+\.jsonl?)", IMPORTS + "/hermes/{n}/{name}"),
    ("specstory-md", r"/(?P<name>[^/]+\.md)", IMPORTS + "/specstory-{n}/.specstory/history/{name}"),
    ("chatgpt-export", r"/(?P<name>[^/]+\.json)", IMPORTS + "/chatgpt/{n}/{name}"),
    ("claude-ai-export", r"/(?P<name>[^/]+\.json)", IMPORTS + "/claude-ai/{n}/{name}"),
)

_NO_SESSIONS = {
    r"\.sql$": "the script that a database of the corpus was made with",
    r"/make_\w+\.sh$": "the script that a database of the corpus was made with",
    r"/nemo_relay_\w+[\w.]*\.jsonl?$": "telemetry of Hermes, with the roles and all words blacked out",
    r"\.db-shm$": "the index of a database's log, which SQLite makes anew",
    r"/copilot-transcript\.jsonl$": "another tool's transcript of a Copilot session, in a format of its own",
}
"""Files of an agent that its reader is not asked to read, and why."""

_SIDE_FILES = re.compile(
    r"\.meta\.json$|/tool-results/|/\.codex/history\.jsonl$|/\.gemini/projects\.json$|/workspace\.json$|\.settings\.json$"
    r"|/(?:taskHistory|task_metadata|ui_messages|history_item|sessions|summary|state)\.json$|\.db-wal$"
    r"|/storage/(?:message|part)/|/events/event-\d+-[\w-]+\.json$|\.checkpoint\.|/sessions/(session_\w+)/\1\.json$"
)
"""What is read with the session beside it, or tells of sessions and is none."""


@dataclass(frozen=True)
class Laid:
    """A file of the corpus and where it lies in the home folder."""

    agent: str
    """The reader's."""
    origin: str
    """`real`, `derived` or `fixture`."""
    stored: Path
    path: Path
    step: int = 0
    """Of snapshots of a session that grew, which one it is, from 1; 0: not one of those."""

    @property
    def is_side_file(self) -> bool:
        return _SIDE_FILES.search(self.path.as_posix()) is not None


def rows(corpus: Path) -> list[dict[str, str]]:
    """Every row of the manifest."""
    csv.field_size_limit(sys.maxsize)
    with (corpus / "MANIFEST.tsv").open(encoding="utf-8", newline="") as stream:
        return [dict(row) for row in csv.DictReader(stream, delimiter="\t")]


def stored_in(corpus: Path, row: Mapping[str, str]) -> Path:
    return corpus / row["stored_path"].split("/", 1)[1]


def why_no_session(row: Mapping[str, str]) -> str:
    """Why a file is not to be read; '' where it is."""
    return next((why for end, why in _NO_SESSIONS.items() if re.search(end, row["stored_path"])), "")


def laid_out(corpus: Path, user: Path) -> list[Laid]:
    """Where every file that is to be read lies under the home folder `user`; nothing is copied yet."""
    numbers: dict[str, int] = {}
    found = []
    for row in rows(corpus):
        if why_no_session(row):
            continue
        stored = stored_in(corpus, row)
        step = re.match(r"(\d\d)__", stored.name) if "/_growth/" in row["stored_path"] else None
        number = numbers.setdefault(str(Path(row["stored_path"]).parent), len(numbers))
        found.append(
            Laid(
                AGENT_OF.get(row["agent"], _agent(row)),
                row["origin"].split()[0],
                stored,
                user / _native(row, stored, number),
                int(step[1]) + 1 if step else 0,
            )
        )
    return found


def copied(files: list[Laid]) -> None:
    """Put files where they belong."""
    for file in files:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.stored, file.path)


def _agent(row: Mapping[str, str]) -> str:
    return "cursor-agent" if row["agent"] == "cursor" and "/agent-transcripts/" in row["stored_path"] else row["agent"]


def _native(row: Mapping[str, str], stored: Path, number: int) -> str:
    if row["native_path"] and not row["native_path"].startswith("("):
        if "<projectHash>" in row["native_path"]:
            return row["native_path"].replace("<projectHash>", _field(stored, "projectHash"))
        return row["native_path"]
    for agent, end, place in _RULES:
        if agent == row["agent"] and (match := re.search(end + "$", row["stored_path"])):
            session = _field(stored, "sessionId") if "{session}" in place else ""
            return place.format(n=number, session=session, **match.groupdict())
    raise AssertionError(f"no rule says where a file of {row['agent']} lies that is called {stored.name}")


def _field(document: Path, name: str) -> str:
    return str(json.loads(document.read_text(encoding="utf-8"))[name])
