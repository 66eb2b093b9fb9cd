"""Trees of sessions: a sub-agent's session names the one that started it, and belongs to the main line at the root."""

from collections.abc import Callable

_MAX_DEPTH = 50


def root_of(session_id: str, parent: str, parent_of: Callable[[str], str]) -> str:
    """The main line above a session, as far up as anything is known; the session itself where it has no parent.

    `parent_of` says which session started another, '' where nobody knows.

    >>> root_of("c", "b", {"b": "a", "a": ""}.__getitem__), root_of("a", "", str), root_of("a", "b", {"b": "a"}.__getitem__)
    ('a', 'a', 'b')
    """
    seen = {session_id}
    root = session_id
    while parent and parent not in seen and len(seen) <= _MAX_DEPTH:
        root = parent
        seen.add(root)
        parent = parent_of(root)
    return root
