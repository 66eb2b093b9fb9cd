"""Every part of recall changes an answer, and leaving it out takes that change back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from lmm_mcp.domain.card import Card, CardSentence
from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.recall import PARTS, Question
from lmm_mcp.domain.writing import Written
from lmm_mcp.recall import naming
from lmm_mcp.recall.changes import Change
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.reranking import FEATURES, Model
from lmm_mcp.store.chunks import ChunkStore

PROJECT = "/home/ann/shop"


def passage(number: int, *lines: tuple[str, str], day: str = "2026-01-12", session: str = "", **more: Any) -> Chunk:
    at_ms = int(datetime.fromisoformat(f"{day}T12:00:00+00:00").timestamp() * 1000) + number
    name = session or f"session-{number}"
    return Chunk(
        id=f"{number:016x}",
        agent=more.pop("agent", "codex"),
        session_id=name,
        thread_id=name,
        project=more.pop("project", PROJECT),
        branch="",
        first_ms=at_ms,
        last_ms=at_ms,
        part=0,
        ordinal=number,
        header="",
        lines=tuple(Line(role, text, Span(f"e{number}-{n}", 0, len(text))) for n, (role, text) in enumerate(lines)),
        files=more.pop("files", ()),
        commands=(),
        content_hash=f"h{number}",
    )


def unit(*numbers: float) -> np.ndarray:
    vector = np.asarray(numbers, np.float32)
    return vector / np.linalg.norm(vector)


class Fixed:
    """A model to which every question means (1, 0, 0)."""

    name, version, dim = "fixed", "1", 3

    def embed(self, texts):
        return np.tile(unit(1, 0, 0), (len(texts), 1))


class Second:
    """A memory model that chooses the second line of all."""

    def write(self, question, offered, *, within_s):
        return Written((2,), model="v1")


class Kept:
    """The cards of a project."""

    def __init__(self, *cards: Card) -> None:
        self.cards = cards

    def of(self, project: str) -> Sequence[Card]:
        return self.cards


class Replaced:
    """A port that an edit replaced."""

    def of(self, project: str) -> Mapping[str, Sequence[Change]]:
        at_ms = LATER.last_ms
        about, marks = frozenset({"tid", "port"}), frozenset({"7440"})
        return {"7311": [Change("7311", "7440", at_ms, at_ms, 0, "edit", about, marks)]}


@dataclass(frozen=True)
class Case:
    """A memory and a question; the beginnings of the quotes with the part, and without it."""

    asked: str
    chunks: Sequence[Chunk]
    told: Sequence[str]
    instead: Sequence[str]
    vectors: Mapping[int, Sequence[np.ndarray]] = field(default_factory=dict)
    """Of the windows of a passage, by its number."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """What the recaller is given."""
    with_label: bool = False
    """Whether the beginnings are those of quotes with who said it."""
    limits: Mapping[str, Any] = field(default_factory=lambda: {"project": PROJECT})


VISITORS = "how do visitors get the newest scripts at once?"
BY_WORDS = passage(1, ("agent", "The visitors of the harbour asked about cranes and gates."))
BY_MEANING = passage(2, ("agent", "Purge the edge cache after each deploy, or guests run stale files."))
TIDES = passage(1, ("agent", "The tide service listens on port 7311 in production."), day="2026-01-12")
LATER = passage(2, ("agent", "The tide service listens on port 7440 in production."), day="2026-02-12")
REFUSED = "ConnectionError: the tide service refused the connection on port {}"
CARD = Card(
    "file", PROJECT, "src/till.py", (CardSentence("Tills round to the cent.", ((f"{1:016x}", 0),)),), {}, 1 << 60, "v1"
)
TILL = passage(1, ("agent", "In src/till.py all sums are rounded to the cent."), files=("src/till.py",))
BACKWARDS = Model(
    np.zeros(len(FEATURES), np.float32),
    np.ones(len(FEATURES), np.float32),
    np.asarray([float(name == "rank") for name in FEATURES], np.float32),
    0.0,
)

CASES: dict[str, Case] = {
    "words": Case(
        "which visitors of the harbour asked about cranes?",
        (BY_WORDS, BY_MEANING),
        ["The visitors", "Purge"],
        ["Purge", "The visitors"],
        {1: [unit(0.3, 1, 0)], 2: [unit(1, 0.4, 0)]},
    ),
    "vectors": Case(
        VISITORS,
        (BY_WORDS, BY_MEANING),
        ["Purge", "The visitors"],
        ["The visitors"],
        {1: [unit(0.3, 1, 0)], 2: [unit(1, 0.4, 0)]},
    ),
    "share": Case(
        VISITORS,
        (BY_WORDS, BY_MEANING),
        ["Purge"],
        ["The visitors"],
        {1: [unit(0.6, 0.8, 0)], 2: [unit(1, 0.4, 0)]},
    ),
    "windows": Case(
        "how are guests kept from seeing what is old?",
        (
            passage(1, ("agent", "Purge the edge cache after each deploy."), ("command", "$ paint the quays yellow")),
            passage(2, ("agent", "The harbour has eleven cranes in all."), ("command", "$ paint the quays red")),
        ),
        ["Purge"],
        ["The harbour"],
        {1: [unit(1, 0.1, 0), unit(-0.6, 1, 0)], 2: [unit(0.5, 0.5, 0), unit(0.5, 0.4, 0)]},
    ),
    "hubs": Case(
        "how are guests kept from seeing what is old?",
        (
            passage(1, ("agent", "The harbour has eleven cranes in all.")),
            passage(2, ("agent", "Purge the edge cache after each deploy.")),
            *(passage(n, ("agent", f"Rope number {n} was bought in May.")) for n in (3, 4, 5)),
        ),
        ["Purge", "The harbour"],
        ["The harbour", "Purge"],
        # Of three dimensions the second is what all but one passage are about, asked or not.
        {1: [unit(0.8, 0.6, 0)], 2: [unit(0.75, 0, 0.66)], **{n: [unit(0.1 * n, 1, 0)] for n in (3, 4, 5)}},
    ),
    "asked": Case(
        "which port does the tide service use?",
        (passage(3, ("user", "which port does the tide service use?")), TIDES),
        ["The tide service"],
        ["which port"],
    ),
    "passages": Case(
        "when do gates and cranes and berths open?",
        (
            passage(
                1,
                ("agent", "Gates and cranes and berths are painted."),
                *[("agent", "Nothing of the kind is known here.")] * 9,
            ),
            passage(
                2,
                ("output", "gates cranes berths open"),
                ("output", "nothing else is known of that"),
                ("agent", "The gates at six in the morning."),
            ),
        ),
        ["The gates at six"],
        ["Gates and cranes"],
    ),
    "neighbours": Case(
        "berth ledger lock",
        (
            passage(
                1,
                ("agent", "Rope and paint were bought in May."),
                ("agent", "It waits for nine seconds at most."),
                ("agent", "So much for the berth ledger lock."),
            ),
        ),
        ["So much", "It waits", "Rope"],
        ["So much", "Rope", "It waits"],
    ),
    "sessions": Case(
        "when does the gate open?",
        (
            passage(1, ("agent", "The gate opens at six in the morning."), session="one"),
            passage(2, ("agent", "The gate opens at seven in the summer."), session="two"),
            *(passage(n, ("output", f"gate open, gate open: {n}"), session="two") for n in (3, 4, 5)),
        ),
        ["The gate opens at seven"],
        ["The gate opens at six"],
    ),
    "files": Case(
        "what should I know before I change src/shop/cart.py?",
        (
            passage(1, ("thought", "see src/shop/cart.py and src/shop/till.py for the rest")),
            passage(
                2,
                ("user", "Round to the nearest cent, and change nothing else."),
                files=("/home/ann/src/shop/cart.py",),
            ),
        ),
        ["Round to the nearest"],
        ["see src/shop/cart.py"],
    ),
    "names": Case(
        "what did gemini decide about the crane?",
        (
            passage(1, ("agent", "We decide that the crane stays yellow.")),
            passage(2, ("agent", "We decide that the crane turns to red."), agent="gemini-cli"),
        ),
        ["We decide that the crane turns"],
        ["We decide that the crane stays"],
    ),
    "errors": Case(
        REFUSED.format(1234),
        (
            passage(
                1,
                ("user", "make the tide test pass"),
                ("command", "$ make check-tides  [exit 2]"),
                ("error", REFUSED.format(7311)),
                ("agent", "It listens on the wrong interface."),
                ("command", "$ make check-tides  [exit 0]"),
            ),
            passage(2, ("agent", "A ConnectionError of the tide service, refused as the connection on port was.")),
        ),
        ["ConnectionError: the tide service refused", "It listens on the wrong"],
        ["A ConnectionError"],
    ),
    "times": Case(
        "what happened between 2026-02-10 and 2026-02-16?",
        (
            passage(1, ("user", "what happened to the crane?"), ("agent", "It stood still."), day="2026-01-12"),
            passage(2, ("user", "write the notes, please"), ("agent", "The notes are written."), day="2026-02-12"),
        ),
        ["write the notes"],
        ["what happened to the crane"],
    ),
    "roles": Case(
        "port of the tides",
        (passage(1, ("output", "tides port: 7311")), passage(2, ("agent", "The port of the tides is 7311 for now."))),
        ["The port of the tides"],
        ["tides port"],
    ),
    "supersession": Case(
        "tide service port production",
        (TIDES, LATER),
        ["The tide service listens on port 7440", "The tide service listens on port 7311"],
        ["The tide service listens on port 7311", "The tide service listens on port 7440"],
    ),
    "duplicates": Case(
        "where do the tides listen?",
        (passage(1, ("agent", "The tides listen on 7311.")), passage(2, ("agent", "The tides listen on 7311."))),
        ["The tides"],
        ["The tides", "The tides"],
    ),
    "excerpts": Case(
        "lighthouse lamp",
        (passage(1, ("agent", "Paint and rope were bought. " * 12 + "The lighthouse lamp turns every 17 seconds.")),),
        ["… "],
        ["Paint and rope"],
    ),
    "labels": Case(
        "how wide is the paper?",
        (passage(1, ("command", "$ lpstat --long"), ("output", "paper: wide, 80 mm")),),
        ["ran: $ lpstat --long", "printed (lpstat --long): paper"],
        ["ran: $ lpstat --long", "printed: paper"],
        with_label=True,
    ),
    "reranker": Case(
        "tide service port production",
        (TIDES, passage(2, ("agent", "The tide table is printed every week."))),
        ["The tide table"],
        ["The tide service"],
        given={"reranker": BACKWARDS},
    ),
    "confidence": Case(
        "which broker carries invoices, receipts, refunds and vouchers to the crane?",
        (passage(1, ("agent", "The crane was painted yellow last spring.")),),
        [],
        ["The crane was painted"],
    ),
    "weak": Case(
        "tide service port production",
        (TIDES, passage(2, ("output", "the port was painted last spring"))),
        ["The tide service"],
        ["The tide service", "the port was painted"],
    ),
    "model": Case(
        "tide service port production",
        (TIDES, passage(2, ("agent", "The tide table is printed every week."))),
        ["The tide table"],
        ["The tide service"],
        given={"writer": Second()},
    ),
    "changes": Case(
        "which port does the tide service listen on?",
        (TIDES,),
        ["agent (7311 is superseded by 7440): The tide service"],
        ["agent: The tide service"],
        given={"changes": Replaced()},
        with_label=True,
    ),
    "cards": Case(
        "what should I know about src/till.py?",
        (TILL,),
        ["Tills round to the cent.", "In src/till.py"],
        ["In src/till.py"],
        given={"cards": Kept(replace(CARD, sources={TILL.id: TILL.content_hash}))},
    ),
}


def test_there_is_a_case_for_every_part():
    assert set(CASES) == set(PARTS)


@pytest.mark.parametrize("part", CASES)
def test_a_part_changes_the_answer_and_without_it_there_is_another(part, tmp_path):
    case = CASES[part]
    store = ChunkStore.open(tmp_path / "store", create=True)
    threads: dict[str, list[Chunk]] = {}
    for each in case.chunks:
        threads.setdefault(each.thread_id, []).append(each)
    store.replace_threads([(chunks[0].agent, name, chunks) for name, chunks in threads.items()])
    if case.vectors:
        store.set_embedder("fixed", "1", 3)
        rows = {f"{number:016x}": np.stack(found) for number, found in case.vectors.items()}
        wholes = [(name, 0, unit(*found.mean(axis=0))) for name, found in rows.items()]
        store.add_vectors(wholes, rows)
    others = frozenset() if part == "confidence" else frozenset({"confidence"})

    def quotes(without: frozenset[str]) -> list[str]:
        recaller = Recaller(store, Fixed() if case.vectors else None, others | without, **case.given)
        found = recaller.recall(Question(case.asked, budget_tokens=800, **case.limits))
        told = [line.partition("] ")[2] for line in found.text.splitlines() if line.startswith("[c")]
        return told if case.with_label else [line.partition(": ")[2] for line in told]

    for found, wanted in ((quotes(frozenset()), case.told), (quotes(frozenset({part})), case.instead)):
        assert [each[: len(start)] for each, start in zip(found, wanted, strict=False)] == list(wanted), found
        assert bool(found) == bool(wanted)
    assert quotes(frozenset()) != quotes(frozenset({part}))


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ("what was decided about the crane in billing?", True),
        ("what was decided about the crane for the billing project?", True),
        ("what was decided about the billing of the crane?", False),
    ],
)
def test_the_project_that_is_named_is_preferred_where_all_are_asked(asked, named, tmp_path):
    store = ChunkStore.open(tmp_path / "store", create=True)
    here = passage(1, ("agent", "It was decided that the crane stays yellow."))
    there = passage(2, ("agent", "It was decided that the crane turns to red."), project="github.com/acme/billing")
    store.replace_threads([("codex", each.thread_id, [each]) for each in (here, there)])
    recaller = Recaller(store, None, frozenset({"confidence"}))
    assert [each.id for each in recaller.search(Question(asked)).chunks][:1] == [there.id if named else here.id]
    within = recaller.search(Question(asked, project=there.project))
    assert not within.boosts


@pytest.mark.parametrize(
    ("text", "agent", "is_named"),
    [
        ("what did codex do in billing?", "codex", True),
        ("which fix had Claude Code suggested?", "claude-code", True),
        ("claude said that the port is taken", "claude-code", True),
        ("the port that gemini-cli's session used", "gemini-cli", True),
        ("how is codex configured?", "codex", False),
        ("where should the cursor stand?", "cursor", False),
        ("go on with what continues", "continue", False),
        ("did codexes do it", "codex", False),
    ],
)
def test_an_agent_is_named_where_something_was_done_by_it(text, agent, is_named):
    assert bool(naming.agents(text, [passage(1, agent=agent)])) is is_named
