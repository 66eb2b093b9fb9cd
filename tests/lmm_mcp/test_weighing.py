"""What holds now goes first, silence where nothing fits, and parts that can be left out: stations of recall with vectors."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.recall import Question
from lmm_mcp.recall import confidence
from lmm_mcp.recall.candidates import Candidates, by_line
from lmm_mcp.recall.evidence import pick
from lmm_mcp.recall.found import Evidence
from lmm_mcp.recall.fusion import fuse
from lmm_mcp.recall.pipeline import Recaller
from lmm_mcp.recall.query import understand
from lmm_mcp.recall.supersession import FEATURES, FITTED, asks_for_the_past, newest_first, values_in
from lmm_mcp.server.desk import Desk
from lmm_mcp.store.chunks import ChunkStore
from lmm_mcp.store.frequencies import Frequencies

DAY_ms = 86_400_000
NONE = Frequencies.none()


def chunk(name: str, *lines: tuple[str, str], day: int = 0, session: str = "") -> Chunk:
    return Chunk(
        id=name,
        agent="codex",
        session_id=session or name,
        thread_id=session or name,
        project="/home/ann/shop",
        branch="",
        first_ms=(20_000 + day) * DAY_ms,
        last_ms=(20_000 + day) * DAY_ms,
        part=0,
        ordinal=0,
        header="",
        lines=tuple(Line(role, text, Span(f"{name}-{n}", 0, len(text))) for n, (role, text) in enumerate(lines)),
        files=(),
        commands=(),
        content_hash="",
    )


def unit(*numbers: float) -> np.ndarray:
    vector = np.asarray(numbers, np.float32)
    return vector / np.linalg.norm(vector)


def candidates(**windows: Sequence[np.ndarray]) -> Candidates:
    """Each chunk's windows; the question's vector is (1, 0, 0)."""
    vectors = {name: np.stack(rows) for name, rows in windows.items()}
    similarities = {name: rows[:, 0] for name, rows in vectors.items()}
    nearest = {name: float(rows.mean(axis=0)[0]) for name, rows in vectors.items()}
    return Candidates({}, nearest, similarities, vectors)


OLD = chunk("old", ("agent", "The API answers on port 8043, as the proxy expects."), day=0)
NEW = chunk("new", ("agent", "The API answers on port 8061 now, the VPN agent took the other one."), day=60)
ASKED = understand("Which port does the API answer on?", NONE)
ALIKE = candidates(old=[unit(0.8, 0.6, 0)], new=[unit(0.7, 0.7, 0.1)])


def test_of_two_lines_about_one_matter_the_newer_goes_first_though_the_older_fits_better():
    found = pick(ASKED, [OLD, NEW], {"old": 1.0, "new": 0.8}, ALIKE)
    assert [each.chunk.id for each in found] == ["new", "old"]
    without = pick(ASKED, [OLD, NEW], {"old": 1.0, "new": 0.8}, ALIKE, without=("supersession",))
    assert [each.chunk.id for each in without] == ["old", "new"]


def test_who_asks_for_the_past_gets_what_fits_best_first():
    asked = understand("Which port did the API answer on before?", NONE)
    found = pick(asked, [OLD, NEW], {"old": 1.0, "new": 0.8}, ALIKE)
    assert [each.chunk.id for each in found] == ["old", "new"]


def test_a_newer_line_about_something_else_stays_behind():
    other = chunk("other", ("agent", "The crane on quay 3 was painted yellow by the port."), day=60)
    apart = candidates(old=[unit(0.8, 0.6, 0)], other=[unit(0.1, -0.9, 0.4)])
    found = pick(ASKED, [OLD, other], {"old": 1.0, "other": 0.3}, apart)
    assert [each.chunk.id for each in found] == ["old", "other"]


def test_every_line_comes_back_once_whatever_its_age():
    rng = np.random.default_rng(5)
    many = [
        chunk(f"c{n}", ("agent", f"The port of service {n % 7} is {8000 + n}."), day=int(rng.integers(90)))
        for n in range(80)
    ]
    vectors = candidates(**{each.id: [unit(*rng.normal(size=3))] for each in many})
    ranked = [
        Evidence(each, each.lines[0], 2 - n / 80, each.lines[0].text, terms=frozenset({"port"}))
        for n, each in enumerate(many)
    ]
    found = newest_first(ranked, ASKED, vectors)
    assert sorted(each.chunk.id for each in found) == sorted(each.id for each in many)
    assert [each.chunk.id for each in found[60:]] == [each.chunk.id for each in ranked[60:]]


def test_the_same_said_later_with_another_value_marks_the_older():
    told = [
        chunk(name, ("agent", f"The tide service listens on port {port} in production."), day=day)
        for name, port, day in (("a", 7311, 0), ("b", 7440, 30))
    ]
    found = pick(understand("tide service port production", NONE), told, {"a": 1.0, "b": 0.9})
    assert [(each.chunk.id, each.superseded) for each in found] == [("b", False), ("a", True)]


def test_the_model_has_a_weight_for_each_feature():
    assert len(FITTED.weights) == len(FEATURES)


def test_values_are_told_from_words():
    assert values_in("we moved the queue to `pdf-render` on 10.20.0.7, said Wen") == {"pdf-render", "10.20.0.7"}
    assert values_in("we moved the queue somewhere else") == frozenset()


def test_a_newer_line_that_names_no_new_value_does_not_overtake():
    talk = chunk("talk", ("agent", "The API answers on the port that the proxy expects, as ever."), day=60)
    alike = candidates(old=[unit(0.8, 0.6, 0)], talk=[unit(0.8, 0.6, 0)])
    found = pick(ASKED, [OLD, talk], {"old": 1.0, "talk": 0.9}, alike)
    assert [each.chunk.id for each in found] == ["old", "talk"]


def test_a_line_has_the_similarity_of_its_window_and_without_windows_that_of_the_whole():
    found = candidates(a=[unit(1, 0, 0), unit(0, 1, 0)])
    assert by_line(found, "a", [range(2), range(2, 3)], 3).tolist() == pytest.approx([1, 1, 0])
    assert by_line(found, "a", [range(3)], 3).tolist() == pytest.approx([0.5] * 3)  # cut by other rules
    assert by_line(found, "b", [range(1)], 1).tolist() == [0]


def test_the_best_window_counts_beside_the_whole():
    assert list(fuse({}, {"a": 0.5, "b": 0.5}, {"a": 0.4, "b": 0.9})) == ["b", "a"]
    assert fuse({}, {"a": 0.5, "b": 0.5})["a"] == fuse({}, {"a": 0.5, "b": 0.5})["b"]


def test_a_line_gains_from_how_well_its_session_fits():
    lines = [("agent", "The gate opens at six in the morning.")]
    chunks = [chunk("a", *lines, session="s1"), chunk("b", ("agent", "It opens at seven."), session="s2")]
    chunks += [chunk(f"s2-{n}", ("agent", f"gate talk {n} and more of it"), session="s2") for n in range(3)]
    scores = {"a": 0.8, "b": 0.8, "s2-0": 0.8, "s2-1": 0.8, "s2-2": 0.8}
    asked = understand("when does it open", NONE)
    gained = {each.chunk.id: each.why["passage"] for each in pick(asked, chunks, scores)}
    assert gained["b"] > gained["a"]
    level = {each.chunk.id: each.why["passage"] for each in pick(asked, chunks, scores, without=("sessions",))}
    assert level["b"] == level["a"]


def test_silence_where_not_even_the_best_line_fits():
    asked = understand("Which broker does the invoice export use?", NONE)
    chunks = [
        chunk("a", ("agent", "The lighthouse was painted white last spring."), ("output", "done in 3 hours and a half"))
    ]
    far, near = (
        candidates(a=[unit(*row) for row in rows])
        for rows in (((0.15, 0.9, 0), (0.6, -0.8, 0)), ((0.9, 0.3, 0), (0, 1, 0)))
    )
    for found, is_told in ((far, False), (near, True)):
        assert max(found.nearest.values()) >= confidence.MIN_SIMILARITY  # the passage as a whole would do
        lines = pick(asked, chunks, {"a": 1.0}, found)
        assert confidence.is_enough(asked, found, chunks, lines) is is_told


@pytest.mark.parametrize(("role", "is_told"), [("agent", True), ("output", False)])
def test_silence_has_a_score_of_its_own_where_nothing_has_vectors(role, is_told):
    asked = understand("Which broker does the invoice export use?", NONE)
    chunks = [chunk("a", (role, "The broker was painted white last spring."))]
    found = Candidates({"a": 3.0}, {})
    lines = pick(asked, chunks, {"a": 1.0}, found)
    assert confidence.says_anything(asked, found, chunks)
    assert confidence.is_enough(asked, found, chunks, lines) is is_told


def test_a_line_far_weaker_than_the_best_is_told_only_where_a_model_chose_it_or_nothing_scored_it():
    best, weak = pick(
        ASKED,
        [chunk("a", ("agent", "The API answers on port 8043.")), chunk("b", ("output", "painted white"))],
        {"a": 1.0},
    )
    mended = replace(weak, score=0.0, why={})
    assert weak.score < confidence.WEAK * best.score
    assert confidence.worth_telling([best, weak, mended]) == [best, mended]
    assert confidence.worth_telling([weak, best], 1) == [weak, best]
    assert confidence.worth_telling([]) == []


def test_silence_by_score_goes_with_what_the_score_is_made_of_and_knows_no_other_language():
    of_windows, of_whole, of_words = (
        confidence.floor(ASKED, found)
        for found in (ALIKE, Candidates({"a": 3.0}, {"a": 0.5}), Candidates({"a": 3.0}, {}))
    )
    assert of_windows == of_whole > of_words > 0
    assert confidence.floor(understand("端口是哪一个？", NONE), Candidates({"a": 3.0}, {})) == 0
    assert confidence.floor(ASKED, replace(ALIKE, is_foreign=True)) == 0


@pytest.mark.parametrize(
    ("text", "paths", "is_only_that"),
    [
        ("src/shop/cart.py", ("src/shop/cart.py",), True),
        ("What should I know before I touch ./src/shop/cart.py?", ("src/shop/cart.py",), True),
        ("why does cart.py round down?", ("cart.py",), False),
        ("history of docs/", (), False),
        ("either/or and 3/4 of them", ("either/or", "3/4"), False),
        ("CI/CD", ("ci/cd",), False),
        ("which port is it", (), False),
    ],
)
def test_a_question_names_files_and_perhaps_nothing_else(text, paths, is_only_that):
    query = understand(text, NONE)
    assert (query.paths, query.asks_of_files) == (paths, is_only_that)


def test_who_asks_about_a_file_learns_what_was_done_there_and_not_where_its_name_stands():
    named = chunk(
        "named", ("agent", "See src/shop/cart.py and src/shop/till.py for the rest."), ("path", "Read src/shop/cart.py")
    )
    done = replace(
        chunk("done", ("user", "Round to the nearest cent, never down."), ("edit", "+    return total.quantize(CENT)")),
        files=("/home/ann/shop/src/shop/cart.py",),
    )
    asked = understand("what should I know before I change src/shop/cart.py?", NONE)
    assert asked.touches(done.files)
    assert not asked.touches(named.files)
    found = pick(asked, [done, named], {"done": 1.0, "named": 0.5})
    assert [each.line.role for each in found[:2]] == ["user", "edit"]
    assert "path" not in {each.line.role for each in found}


def test_passages_that_touched_the_file_come_first_however_often_others_name_it(harbour, harbour_env):
    desk = Desk(harbour, {**harbour_env, "LMM_EMBEDDER_NAME": "none"})
    store, recaller = desk.store(), desk.recaller()
    touched = next(
        each
        for row in desk.ledger.threads()
        for each in store.thread(row.thread.agent, row.thread.thread_id)
        if each.files
    )
    asked = desk.question(f"what do I have to know before I edit {touched.files[0]}?", project="*")
    assert recaller.search(asked).query.touches(recaller.search(asked).chunks[0].files)


@pytest.mark.parametrize("pattern", ["a-", "a/", "./", "../", "@~", "a.", "-.", "a.py ", "`", "\\", ":1", "x" * 50])
def test_the_longest_question_is_understood_at_once_whatever_it_is_made_of(pattern):
    text = (pattern * 20_000)[:20_000]
    started_s = time.process_time()
    understand(text, NONE)
    values_in(text[:500])
    assert time.process_time() - started_s < 1


class Fixed:
    """A model to which every text means the same."""

    name, version, dim = "fixed", "1", 3

    def embed(self, texts):
        return np.tile(unit(1, 0, 0), (len(texts), 1))


def test_words_count_as_far_as_they_are_met_and_meaning_decides_where_they_are_not(tmp_path):
    store = ChunkStore.open(tmp_path / "store", create=True)
    by_words = chunk("1" * 16, ("agent", "The visitors of the harbour asked about cranes and gates."))
    by_meaning = chunk("2" * 16, ("agent", "Purge the edge cache after each deploy, or guests run stale files."))
    for each in (by_words, by_meaning):
        store.replace_thread("codex", each.thread_id, [each])
    store.set_embedder("fixed", "1", 3)
    vectors = {by_words.id: np.stack([unit(0.3, 1, 0)]), by_meaning.id: np.stack([unit(1, 0.4, 0)])}
    store.add_vectors([(name, 0, rows[0]) for name, rows in vectors.items()], vectors)
    recaller = Recaller(store, Fixed())
    asked = "how do visitors get the newest scripts at once?"  # one word of five is met
    assert [each.id for each in recaller.search(Question(asked)).chunks] == [by_meaning.id, by_words.id]
    asked = "which visitors of the harbour asked about cranes?"
    assert [each.id for each in recaller.search(Question(asked)).chunks] == [by_words.id, by_meaning.id]
    words_only = Recaller(store, Fixed(), frozenset({"vectors"}))
    assert [each.id for each in words_only.search(Question(asked)).chunks] == [by_words.id]


@pytest.mark.parametrize("question", ["which linter runs before pushing?", "what must I do before I deploy?"])
def test_before_an_act_to_come_is_not_the_past(question: str):
    assert not asks_for_the_past(understand(question, Frequencies.none()))


@pytest.mark.parametrize(
    "question",
    ["what did we use before pnpm?", "which tool was it before we moved?", "which one before switching to uv?"],
)
def test_before_a_change_is_the_past(question: str):
    assert asks_for_the_past(understand(question, Frequencies.none()))
