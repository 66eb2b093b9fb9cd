"""Evidence as a memory model is shown it: the best lines, numbered. Lessons and serving both take it from here."""

from collections.abc import Sequence
from datetime import UTC, datetime

from lmm_mcp.domain.writing import MAX_OFFERED, MAX_OFFERED_chars, Offered
from lmm_mcp.recall.found import Evidence


def offered(evidence: Sequence[Evidence]) -> tuple[Offered, ...]:
    """The first `MAX_OFFERED` lines, best first."""
    return tuple(offer(each, number) for number, each in enumerate(evidence[:MAX_OFFERED], start=1))


def offer(evidence: Evidence, number: int) -> Offered:
    """One line under the given number."""
    at_ms = evidence.chunk.last_ms or evidence.chunk.first_ms
    return Offered(
        number=number,
        chunk_id=evidence.chunk.id,
        line_number=evidence.number,
        role=evidence.line.role,
        text=evidence.text[:MAX_OFFERED_chars],
        day=datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d") if at_ms else "",
        superseded=evidence.superseded,
    )
