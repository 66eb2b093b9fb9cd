"""Roo Code: Cline's task folders, each with a `history_item.json` that names its parent."""

from pathlib import Path

from ingest.readers.cline_tasks import CONVERSATION, ITEM, TaskReader


class Roo(TaskReader):
    """Reader of Roo Code tasks."""

    agent = "roo"
    version = 1
    extensions = ("rooveterinaryinc.roo-cline", "rooveterinaryinc.roo-code-nightly")

    def claims(self, path: Path) -> bool:
        """A conversation in the extension's storage, or one elsewhere with the file beside it that Cline does not write."""
        return super().claims(path) or (
            path.name == CONVERSATION and path.is_file() and path.with_name(ITEM).is_file() and _is_nobodys(path)
        )


def _is_nobodys(path: Path) -> bool:
    return not any(part.startswith(("saoudrizwan.", "kilocode.")) for part in path.parts)
