"""Events and threads in, the same without secrets out. The rules are `lmm_mcp.redaction`'s."""

from dataclasses import replace

from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.redaction import redact


def redact_event(event: Event) -> Event:
    """Cut secrets out of everything an event says; the same object where there are none."""
    clean = replace(
        event,
        text=redact(event.text),
        tool=redact(event.tool),
        command=redact(event.command),
        paths=tuple(map(redact, event.paths)),
        cwd=redact(event.cwd),
        branch=redact(event.branch),
    )
    return event if clean == event else clean


def redact_thread(thread: Thread) -> Thread:
    """Cut secrets out of what is known about a thread; a remote with credentials is a frequent one."""
    clean = replace(
        thread,
        title=redact(thread.title),
        cwd=redact(thread.cwd),
        branch=redact(thread.branch),
        remote=redact(thread.remote),
    )
    return thread if clean == thread else clean
