"""Where a tool runs: agents let a call name a folder, as seen from where the session is."""

import posixpath
from collections.abc import Mapping

from ingest.readers.calls import first_text

_NAMES = ("workdir", "working_dir", "working_directory", "cwd")


def workdir_of(arguments: object, cwd: str) -> str:
    """The folder that a call is made in; `cwd` where it names none.

    >>> workdir_of({"command": "ls", "workdir": "crane/.."}, "/home/mira/harbour"), workdir_of(None, "/home/mira")
    ('/home/mira/harbour', '/home/mira')
    >>> workdir_of({"cwd": "/srv"}, "/home/mira"), workdir_of({"cwd": "crane"}, "")
    ('/srv', 'crane')
    """
    named = first_text(arguments, _NAMES) if isinstance(arguments, Mapping) else ""
    if not named or not cwd or named.startswith(("/", "\\", "~")) or named[1:2] == ":":
        return named or cwd
    return posixpath.normpath(posixpath.join(cwd, named))
