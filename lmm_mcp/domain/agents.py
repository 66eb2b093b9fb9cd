"""The agents whose sessions are read, by the names that stand in every event, chunk and citation."""

KNOWN_AGENTS = (
    "claude-code",
    "codex",
    "gemini-cli",
    "opencode",
    "kilo",
    "cursor",
    "cursor-agent",
    "copilot-cli",
    "vscode-copilot",
    "cline",
    "roo",
    "kilo-legacy",
    "continue",
    "aider",
    "goose",
    "qwen-code",
    "crush",
    "zed",
    "factory-droid",
    "pi",
    "kiro",
    "openhands",
    "amp",
    "grok",
    "kimi",
    "deepseek",
    "antigravity",
    "hermes",
    "specstory",
    "swe-agent",
    "chatgpt",
    "claude-ai",
    "notes",
)
"""`notes` is what `remember` wrote; each of the others has a reader of that name in the ingest wing."""

EXPORTS = "lmm-export"
"""Name of the reader of our own exports and backups. What it reads bears the names of the agents it came from."""
