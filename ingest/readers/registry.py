"""Every reader there is. A new agent is one file beside this one and one line here; docs/readers.md says how."""

import logging
from importlib import metadata
from pathlib import Path

from ingest.readers.aider import Aider
from ingest.readers.amp import Amp
from ingest.readers.antigravity import Antigravity
from ingest.readers.chatgpt import ChatGpt
from ingest.readers.claude_ai import ClaudeAi
from ingest.readers.claude_code import ClaudeCode
from ingest.readers.cline import Cline
from ingest.readers.codex import Codex
from ingest.readers.continue_dev import Continue
from ingest.readers.copilot_cli import CopilotCli
from ingest.readers.crush import Crush
from ingest.readers.cursor import CursorEditor
from ingest.readers.cursor_agent import CursorAgent
from ingest.readers.deepseek import DeepSeek
from ingest.readers.factory_droid import FactoryDroid
from ingest.readers.gemini_cli import GeminiCli
from ingest.readers.goose import Goose
from ingest.readers.grok import Grok
from ingest.readers.hermes import Hermes
from ingest.readers.kilo_legacy import KiloLegacy
from ingest.readers.kimi import Kimi
from ingest.readers.kiro import Kiro
from ingest.readers.lmm_export import LmmExport
from ingest.readers.notes import Notes
from ingest.readers.opencode import Kilo, OpenCode
from ingest.readers.openhands import OpenHands
from ingest.readers.pi import Pi
from ingest.readers.qwen_code import QwenCode
from ingest.readers.roo import Roo
from ingest.readers.specstory import SpecStory
from ingest.readers.swe_agent import SweAgent
from ingest.readers.vscode_copilot import VsCodeCopilot
from ingest.readers.zed import Zed
from ingest.session import Reader
from lmm_mcp.errors import BadInput

_log = logging.getLogger("lmm.ingest")

_CURSOR = CursorEditor()

BUILT_IN: tuple[Reader, ...] = (
    ClaudeCode(),
    Codex(),
    GeminiCli(),
    QwenCode(),
    CopilotCli(),
    FactoryDroid(),
    DeepSeek(),
    Pi(),
    Grok(),
    Kimi(),
    Antigravity(),
    OpenHands(),
    Roo(),
    KiloLegacy(),
    Cline(),
    Kiro(),  # before others whose documents look alike: it goes by the place as well
    Amp(),
    Continue(),
    SpecStory(),  # before Aider: it may quote one
    Aider(),
    SweAgent(),
    ChatGpt(),
    ClaudeAi(),
    OpenCode(),
    Kilo(),
    Crush(),
    Goose(),
    Hermes(),
    _CURSOR,
    CursorAgent(_CURSOR),
    VsCodeCopilot(),
    Zed(),
    Notes(),
    LmmExport(),
)
"""Who comes first is asked first whether a file is his."""

ENTRY_POINTS = "lmm_mcp.readers"
"""A package that brings a reader names its class under this group of entry points."""


def _brought() -> tuple[Reader, ...]:
    """Readers that other packages bring. One that cannot be loaded, or takes a name that is taken, is left out and said."""
    found: dict[str, Reader] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        try:
            reader: Reader = point.load()()
            if reader.agent in {known.agent for known in BUILT_IN}:
                raise ValueError(f"there is a reader of {reader.agent} already")
            found[reader.agent] = reader
        except Exception as problem:  # whatever a stranger's package raises, ours are read
            _log.warning("the reader %s of another package cannot be used: %s", point.name, problem)
    return tuple(found.values())


READERS: tuple[Reader, ...] = (*BUILT_IN, *_brought())


def by_agent(name: str) -> Reader:
    """Find the reader of an agent, such as `codex`. Raises BadInput naming those there are."""
    for reader in READERS:
        if reader.agent == name:
            return reader
    raise BadInput(f"no agent is called {name!r}; known: {', '.join(reader.agent for reader in READERS)}.")


def reader_for(path: Path) -> Reader | None:
    """Find the reader that knows a file by its name and first bytes; None where nobody does."""
    return next((reader for reader in READERS if reader.claims(path)), None)
