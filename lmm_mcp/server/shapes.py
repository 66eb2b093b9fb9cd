"""The structured output of the tools: stable API, held by a test. Add fields if you must; never rename or drop one."""

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from lmm_mcp.domain.recall import Brief, Citation, NothingFound, Recall


class CitationShape(BaseModel):
    """Where one mark of a brief comes from."""

    model_config = ConfigDict(extra="forbid")

    mark: str
    """As in the text, without brackets: `c1`."""
    id: str
    """For `expand`."""
    session: str
    """The agent's own session id."""
    agent: str
    project: str
    at: str
    """ISO-8601, UTC; '' where unknown."""


class RecallShape(BaseModel):
    """What `recall` answers."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["found", "nothing_found"]
    text: str
    """The brief, the same as the text block."""
    sessions: list[str]
    """The agents' own session ids in order of first citation, no others."""
    citations: list[CitationShape]
    notes: list[str]
    """What the caller should know about how this came to be."""


class PassageShape(BaseModel):
    """One passage of the text that `expand` answers, in the same order."""

    model_config = ConfigDict(extra="forbid")

    session: str
    """The agent's own session id."""
    ids: list[str]
    """Which of the ids asked for lie in it."""


class ExpandShape(BaseModel):
    """What `expand` answers."""

    model_config = ConfigDict(extra="forbid")

    text: str
    """The passages, the same as the text block."""
    passages: list[PassageShape]


class StatusShape(BaseModel):
    """What `status` answers."""

    model_config = ConfigDict(extra="forbid")

    text: str
    """A fact on each line, the same as the text block."""
    reading: str
    """`beginning`, `importing`, `embedding`, `up_to_date`, `stopped` (nothing is read now), `paused`,
    `blocked` (a limit is reached: `text` says which), `failed`, `never`."""
    sessions: int
    """How many are remembered, and how many passages of them."""
    passages: int
    project: str
    """Key of the project that is asked by default, '' where all are."""


class RememberShape(BaseModel):
    """What `remember` answers."""

    model_config = ConfigDict(extra="forbid")

    id: str
    project: str
    """Key of the project that the note belongs to, '' for none."""


def recall_shape(found: Recall) -> RecallShape:
    """Bring an answer into the form that callers rely on."""
    match found:
        case Brief():
            citations = [_citation(citation) for citation in found.citations]
            return RecallShape(
                status="found",
                text=found.text,
                sessions=list(found.sessions),
                citations=citations,
                notes=list(found.notes),
            )
        case NothingFound():
            return RecallShape(
                status="nothing_found", text=found.text, sessions=[], citations=[], notes=list(found.notes)
            )


def _citation(citation: Citation) -> CitationShape:
    return CitationShape(
        mark=citation.mark,
        id=citation.chunk_id,
        session=citation.session_id,
        agent=citation.agent,
        project=citation.project,
        at=iso_time(citation.at_ms),
    )


def iso_time(at_ms: int) -> str:
    """Milliseconds since 1970 as ISO-8601, UTC; '' where unknown.

    >>> iso_time(0), iso_time(1_772_000_000_000)
    ('', '2026-02-25T06:13:20Z')
    """
    try:
        return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at_ms > 0 else ""
    except (ValueError, OverflowError, OSError):  # an agent's broken clock
        return ""


def compact(schema: dict[str, Any]) -> dict[str, Any]:
    """Say the same in fewer tokens: no titles, no docstrings, no null defaults, references put in place.

    The definitions of all tools stand in the prompt of every session of every agent, so each word is paid for often.

    >>> compact({"title": "A", "type": "object", "properties": {"title": {"title": "Title", "type": "string"}}})
    {'type': 'object', 'properties': {'title': {'type': 'string'}}}
    """
    return dict(_compact(schema, schema.get("$defs", {})))


def _compact(node: Any, defs: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_compact(item, defs) for item in node]
    if not isinstance(node, dict):
        return node
    if isinstance(reference := node.get("$ref"), str):
        # A model's docstring speaks to programmers, not to the one who calls the tool.
        return _compact(
            {key: value for key, value in defs[reference.rpartition("/")[2]].items() if key != "description"}, defs
        )
    if "properties" in node:
        node = {key: value for key, value in node.items() if key != "description"}
    return {
        key: {name: _compact(item, defs) for name, item in value.items()}
        if key == "properties"
        else _compact(value, defs)
        for key, value in node.items()
        if key not in ("title", "$defs", "additionalProperties") and not (key == "default" and value is None)
    }
