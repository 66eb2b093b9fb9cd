"""Events and threads in, the same without secrets out. The rules are `lmm_mcp.redaction`'s."""

from dataclasses import replace

from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.redaction import redact


def redact_event(event: Event) -> Event:
    """Cut secrets out of everything an event says; the same object where there are none."""
    clean = {name: redact(getattr(event, name)) for name in ("text", "command", "cwd", "branch")}
    paths = tuple(map(redact, event.paths))
    if paths == event.paths and all(getattr(event, name) == value for name, value in clean.items()):
        return event
    return replace(event, paths=paths, **clean)


def redact_thread(thread: Thread) -> Thread:
    """Cut secrets out of what is known about a thread; a remote with credentials is a frequent one."""
    clean = {name: redact(getattr(thread, name)) for name in ("title", "cwd", "branch", "remote")}
    if all(getattr(thread, name) == value for name, value in clean.items()):
        return thread
    return replace(thread, **clean)
