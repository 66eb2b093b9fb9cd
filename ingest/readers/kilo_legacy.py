"""Kilo Code as an extension, before it kept a database: the same task folders as Roo Code, of which it is a fork."""

from ingest.readers.cline_tasks import TaskReader


class KiloLegacy(TaskReader):
    """Reader of Kilo Code tasks."""

    agent = "kilo-legacy"
    version = 1
    extensions = ("kilocode.kilo-code",)
