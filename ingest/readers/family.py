"""Trees of sessions: a sub-agent's session names the one that started it, and belongs to the main line at the root."""

from collections.abc import Callable

_MAX_DEPTH = 50


def root_of(session_id: str, parent: str, parent_of: Callable[[str], str | None]) -> str:
    """The main line above a session, as far up as anything is known; the session itself where it has no parent.

    `parent_of` says which session started another: '' where nobody did or nobody knows, None where that other one is not
    there at all. Nobody can open what is not there, so what it started stands for itself.

    >>> root_of("c", "b", {"b": "a", "a": ""}.get), root_of("a", "", str), root_of("a", "b", {"b": None}.get), root_of("a", "b", {"b": ""}.get)
    ('a', 'a', 'a', 'b')
    """
    seen = {session_id}
    root = session_id
    while parent and parent not in seen and len(seen) <= _MAX_DEPTH:
        above = parent_of(parent)
        if above is None:
            break
        root = parent
        seen.add(root)
        parent = above
    return root
