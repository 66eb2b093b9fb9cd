"""The agents whose sessions are read, by the names that stand in every event, chunk and citation."""

KNOWN_AGENTS = ("claude-code", "codex", "notes")
"""`notes` is what `remember` wrote; each of the others has a reader of that name in the ingest wing."""
