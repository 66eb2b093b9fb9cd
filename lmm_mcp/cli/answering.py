"""Who answers the questions that are made of the user's own sessions: the recall tool, or something to hold against it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lmm_mcp.errors import BadInput, StoreError
from lmm_mcp.server import asking
from lmm_mcp.server.desk import Desk, now_ms

if TYPE_CHECKING:
    from lmm_mcp.evaluation.questions import Answered, Ask, Asked
    from lmm_mcp.recall.pipeline import Recaller
    from lmm_mcp.server.inprocess import Call
    from lmm_mcp.store.chunks import ChunkStore
    from lmm_mcp.store.search import Scope

WEIGHTS = "recall + weights"
"""The recall tool with a memory model that knows nothing of what came after the questions."""
MEMORY_MODEL = "the memory model"


@contextmanager
def answering(desk: Desk, arm: str, budget_tokens: int, *, asked_until_ms: int | None = None) -> Iterator["Ask"]:
    """What answers questions that name their project by its key. Raises BadInput and StoreError.

    `asked_until_ms`: none is asked as of a later time, which spares some arms work.
    """
    from lmm_mcp.evaluation.arms import ARMS, Bench

    if arm in ("recall", WEIGHTS):
        from lmm_mcp.server.inprocess import tool_caller

        with tool_caller(desk) as call:
            yield lambda asked: _recalled(call, asked, budget_tokens)
        return
    if arm not in ARMS or arm == "oracle":  # here nobody wrote down which lines are gold
        raise BadInput(
            f"there is no arm {arm!r}; write recall, {', '.join(name for name in ARMS if name != 'oracle')}."
        )
    bench = Bench(opened(desk), desk.ledger, desk.archive, desk.ready_embedder(), _scope, asked_until_ms)
    yield lambda asked: ARMS[arm](bench, asked, budget_tokens)


def put_to_the_past(desk: Desk, as_of_ms: int) -> list[str]:
    """Let nothing answer from now on that was learned from anything later; name what is left out for that."""
    holdings = desk.holdings
    holdings.as_of_ms = None
    was_by_words, had_ranking, model = desk.by_words_only(), holdings.ranking() is not None, holdings.memory_model()
    holdings.as_of_ms = as_of_ms
    left_out = {
        "the sentence model fitted to your sessions": not was_by_words and bool(desk.by_words_only()),
        "the order of lines learned from your sessions": had_ranking and holdings.ranking() is None,
        MEMORY_MODEL: model is not None and not 0 < model[1] <= as_of_ms,
    }
    return [name for name, is_out in left_out.items() if is_out]


def by_recaller(recaller: "Recaller", asked: "Asked", budget_tokens: int) -> "Answered":
    """What recall itself says, without a word of whoever hands it on."""
    from lmm_mcp.domain.recall import NothingFound, Question
    from lmm_mcp.evaluation.questions import Answered

    until_ms = _scope(asked).until_ms
    found = recaller.recall(Question(asked.question, asked.project, until_ms=until_ms, budget_tokens=budget_tokens))
    if isinstance(found, NothingFound):
        return Answered(found.text, (), abstained=True)
    return Answered(found.text, found.sessions, False, tuple(each.chunk_id for each in found.citations))


def opened(desk: Desk) -> "ChunkStore":
    """The store. Raises StoreError where nothing was ever imported."""
    if (store := desk.store()) is None:
        raise StoreError("nothing has been imported yet, so there is nothing to measure. Run `lmm import`.")
    return store


def told(left_out: Mapping[str, int]) -> str:
    """How many were left out, and why."""
    return "; ".join(f"{num:,} {why}" for why, num in sorted(left_out.items(), key=lambda each: -each[1])) or "none"


def _recalled(call: "Call", asked: "Asked", budget_tokens: int) -> "Answered":
    from lmm_mcp.evaluation.questions import Answered

    found = call(
        "recall", query=asked.question, project=asked.project, until=asked.asked_at, budget_tokens=budget_tokens
    )
    cited = tuple(citation["id"] for citation in found["citations"])
    return Answered(found["text"], tuple(found["sessions"]), found["status"] == "nothing_found", cited)


def _scope(asked: "Asked") -> "Scope":
    from lmm_mcp.store.search import Scope

    return Scope(project=asked.project, until_ms=asking.checked_times(None, asked.asked_at, now_ms())[1])
