"""Every reader there is. A new agent is one file beside this one and one line here."""

from pathlib import Path

from ingest.readers.claude_code import ClaudeCode
from ingest.readers.codex import Codex
from ingest.readers.notes import Notes
from ingest.session import Reader
from lmm_mcp.errors import BadInput

READERS: tuple[Reader, ...] = (ClaudeCode(), Codex(), Notes())


def by_agent(name: str) -> Reader:
    """Find the reader of an agent, such as `codex`. Raises BadInput naming those there are."""
    for reader in READERS:
        if reader.agent == name:
            return reader
    raise BadInput(f"no agent is called {name!r}; known: {', '.join(reader.agent for reader in READERS)}.")


def reader_for(path: Path) -> Reader | None:
    """Find the reader that knows a file by its name and first bytes; None where nobody does."""
    return next((reader for reader in READERS if reader.claims(path)), None)
