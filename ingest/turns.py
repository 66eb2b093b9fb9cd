"""Events in, turns out: each prompt with everything up to the next one, calls joined with their results.

Our own traffic is dropped here (no echo): calls of this memory with their results, and fenced briefs wherever they were
pasted. The archive keeps both, marked as ours.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ingest.session import ToolCall, Turn
from lmm_mcp.domain.event import Event, Thread
from lmm_mcp.domain.fence import without_fenced


def pair_turns(thread: Thread, events: Iterable[Event]) -> Iterator[Turn]:
    """Yield the turns of one thread, in order.

    `events` must be in the agent's order, each id once. A result whose call is unknown stands alone as a step.
    """
    own = [cleaned for event in events if (cleaned := _without_echo(event)) is not None]
    results = {event.call_id: event for event in own if event.kind == "result" and event.call_id}
    calls = {event.call_id for event in own if event.kind == "call"}
    prompt: Event | None = None
    steps: list[Event | ToolCall] = []
    for event in own:
        if event.kind == "prompt":
            if prompt is not None or steps:
                yield Turn(thread, prompt, tuple(steps))
            prompt, steps = event, []
        elif event.kind == "call":
            steps.append(ToolCall(event, results.get(event.call_id)))
        elif event.kind != "result" or event.call_id not in calls:
            steps.append(event)
    if prompt is not None or steps:
        yield Turn(thread, prompt, tuple(steps))


def _without_echo(event: Event) -> Event | None:
    if event.ours:
        return None
    # Spans of chunks index the archived text, so what was fenced is blanked out and not cut.
    kept = without_fenced(event.text)
    if kept == event.text:
        return event
    return replace(event, text=kept) if kept.strip() else None
