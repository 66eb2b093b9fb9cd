"""A probe read back: which question it asks, and which lines it shows. So probes need keep nothing but their prompt."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from string import Template

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.writing import MAX_OFFERED, Offered
from trainer.measures import is_right

Recall = Callable[[str, str], Sequence[Offered]]
"""Question and project in, all evidence that recall has out, best first."""
Sure = Callable[[str, str], bool]
"""Question and project in; whether recall tells its lines though a memory model finds no answer in them."""
_LINE = re.compile(r"\[(\d+)\] (\S+) (\w+)( \(superseded\))?: ?(.*)")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True, slots=True)
class Asked:
    """One probe, with what it is judged by."""

    probe: Probe
    question: str
    project: str
    offered: tuple[Offered, ...]
    """The lines its prompt shows, in the order of the ranking; none for a probe that is asked without evidence."""
    answering: frozenset[int]
    """Of a choice: the numbers of the lines that answer."""
    is_sure: bool = True
    """Whether its lines are served though a model finds no answer in them; those that a probe brings along are taken for sure."""

    @property
    def is_choice(self) -> bool:
        """Whether lines are to be named."""
        return self.probe.slice == "choice"

    @property
    def shows_evidence(self) -> bool:
        """Whether its prompt brings the lines along."""
        return bool(self.offered)

    @property
    def reference(self) -> str:
        """The right answer in words: of a choice the lines that answer; '' where nothing does."""
        if self.is_choice:
            return "\n".join(each.text for each in self.offered if each.number in self.answering)
        return next(iter(self.probe.answers), "")

    @property
    def should_abstain(self) -> bool:
        """Whether nothing answers."""
        return not self.answering if self.is_choice else not self.probe.answers


def always(_question: str, _project: str) -> bool:
    """A recall that stands by all it finds."""
    return True


def read(probe: Probe) -> Asked:
    """Read a probe back."""
    gaps = _gaps(probe.prompt)
    numbers = _NUMBER.findall(" ".join(probe.answers)) if probe.slice == "choice" else []
    return Asked(
        probe,
        question=gaps.get("question", probe.prompt),
        project=gaps.get("project", ""),
        offered=lines(gaps.get("evidence", "")),
        answering=frozenset(map(int, numbers)),
    )


def lines(evidence: str) -> tuple[Offered, ...]:
    """Lines as they stand in a prompt.

    >>> lines("[1] 2026-02-15 command: pytest -q")[0].text
    'pytest -q'
    """
    found = []
    for line in evidence.splitlines():
        if (told := _LINE.fullmatch(line)) is not None:
            number, day, role, superseded, text = told.groups()
            found.append(
                Offered(int(number), "", int(number), role, text, "" if day == "undated" else day, bool(superseded))
            )
        elif found:  # the rest of a line that was broken
            last = found.pop()
            found.append(Offered(last.number, "", last.line_number, last.role, f"{last.text}\n{line}", last.day))
    return tuple(found)


def _gaps(prompt: str) -> dict[str, str]:
    """What the gaps of the prompt file were filled with, whichever it was."""
    for name in ("choose", "brief", "fact"):
        body = prompting.load(name).body
        parts = re.split(r"\$(\w+)", body)
        assert set(parts[1::2]) == set(Template(body).get_identifiers())
        pattern = "".join(re.escape(each) if n % 2 == 0 else f"(?P<{each}>.*)" for n, each in enumerate(parts))
        if (found := re.fullmatch(pattern, prompt, re.DOTALL)) is not None:
            return found.groupdict()
    return {}


@dataclass(frozen=True, slots=True)
class LaidOut:
    """Probes by the ways in which they can be asked."""

    closed: list[Asked]
    """Without evidence."""
    open: list[Asked]
    """Those that bring their lines along."""
    shown: list[Asked]
    """All about the memory, with the lines that recall has or that they bring."""
    behind: dict[str, tuple[Offered, ...]]
    """By probe: all evidence that recall has for a fact, also what is not shown."""


def laid_out(probes: Iterable[Probe], recall: Recall, is_sure: Sure = always) -> LaidOut:
    """Read probes, and ask recall for those that bring nothing along."""
    asked = [read(probe) for probe in probes]
    closed = [each for each in asked if not each.shows_evidence]
    facts = [each for each in closed if each.probe.slice != "general"]
    open_ = [each for each in asked if each.shows_evidence]
    behind = {each.probe.id: _numbered(recall(each.question, each.project)) for each in facts}
    told = [
        replace(each, offered=behind[each.probe.id][:MAX_OFFERED], is_sure=is_sure(each.question, each.project))
        for each in facts
    ]
    shown = [*told, *open_]
    return LaidOut(closed, open_, shown, behind)


def gold_only(asked: Asked) -> Asked:
    """The same with lines that answer alone; where there are none, the answer itself as a line."""
    if asked.should_abstain:
        return replace(asked, offered=())
    if asked.is_choice:
        return replace(asked, offered=tuple(each for each in asked.offered if each.number in asked.answering))
    gold = tuple(each for each in asked.offered if is_right(asked.probe.answers, each.text))
    return replace(asked, offered=gold or (Offered(1, "", 0, "note", asked.probe.answers[0], ""),))


def fitting(offered: Sequence[Offered], max_chars: int) -> tuple[Offered, ...]:
    """As many of the best lines as a long context holds."""
    left, kept = max_chars, []
    for each in offered:
        left -= len(each.shown()) + 1
        if left < 0:
            break
        kept.append(each)
    return tuple(kept)


def _numbered(evidence: Sequence[Offered]) -> tuple[Offered, ...]:
    return tuple(replace(each, number=number) for number, each in enumerate(evidence, 1))
