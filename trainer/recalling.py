"""Recall as probes are judged with it: lines without any memory model, whether it stands by them, and which sessions they show."""

from collections.abc import Sequence

from lmm_mcp.domain.recall import MAX_BUDGET_tokens, Question
from lmm_mcp.domain.writing import Offered
from lmm_mcp.recall.offering import offer
from trainer.gathering import Memory

MAX_CANDIDATES = 60
"""Evidence lines that a long context may hold."""


class Recalls:
    """Asks a memory; what was asked before is not asked again."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._known: dict[tuple[str, str], tuple[tuple[Offered, ...], bool]] = {}
        self.threads: set[tuple[str, str]] = set()
        """(agent, thread id) of all lines so far."""

    def __call__(self, question: str, project: str) -> Sequence[Offered]:
        """All evidence that recall has, best first."""
        return self._found(question, project)[0]

    def is_sure(self, question: str, project: str) -> bool:
        """Whether the lines are told though a memory model finds no answer in them."""
        return self._found(question, project)[1]

    def _found(self, question: str, project: str) -> tuple[tuple[Offered, ...], bool]:
        if (question, project) not in self._known:
            asked = Question(question, project or None, budget_tokens=MAX_BUDGET_tokens)
            found, is_sure = self._memory.recaller.ranked(asked)
            shown = found[:MAX_CANDIDATES]
            self.threads |= {(each.chunk.agent, each.chunk.thread_id) for each in shown}
            lines = tuple(offer(each, number) for number, each in enumerate(shown, 1))
            self._known[question, project] = lines, is_sure
        return self._known[question, project]
