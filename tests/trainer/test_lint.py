"""What may not be trained on is dropped and counted; what cannot be mended stops the run."""

from dataclasses import replace

import pytest

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import Lesson, Probe
from lmm_mcp.domain.writing import Offered
from lmm_mcp.errors import TrainingError
from lmm_mcp.model.validating import NOTHING
from trainer import leaks, lint, near
from trainer.choices import NOBODY

UNTIL_ms = 1_772_000_000_000
WORDS = (
    "lantern brine gravel otter maple quartz thimble walnut ferry kettle orchard pigeon saddle tulip vessel willow anchor "
    "barrel candle dagger ember feather goblet harbor island jigsaw kitten ladder mirror needle"
).split()


def brief(n: int, **more) -> Lesson:
    """A brief about the n-th of many unlike matters."""
    matter = f"{WORDS[n % 30]} {WORDS[(7 * n + 3) % 30]} {WORDS[(11 * n + 5) % 30]}"
    line = Offered(1, "a" * 16, 0, "agent", f"the {matter} is kept in slot {100 + n}", "2026-02-01")
    given = {
        "slice": "brief",
        "category": "",
        "prompt": prompting.writing(f"where is the {matter} kept?", [line]),
        "answer": f"the {matter} is kept in slot {100 + n} [1].",
        "template": prompting.load("brief").mark,
        "family": "train/prompt",
        "memory": f"memory {n}",
        "sources": (f"source {n}",),
        "threads": (("codex", f"thread {n}"),),
        "at_ms": UNTIL_ms - 1000,
    }
    return Lesson(**(given | more))


def linted(*lessons: Lesson, slices=("brief",), **more) -> lint.Linted:
    return lint.lint(lessons, until_ms=UNTIL_ms, slices=slices, **more)


def test_what_is_fit_passes_unchanged():
    lessons = tuple(brief(n) for n in range(24))
    found = linted(*lessons)
    assert found.lessons == lessons
    assert not any(found.dropped.values())
    assert all(each.passed and each.gate == "G0" for each in found.findings)


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (brief(1, at_ms=UNTIL_ms + 1), lint.TOO_NEW),
        (brief(1, answer="ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8" + " [1]."), lint.SECRET),
        (brief(1, answer="the slot is SLOT_TABLE_9 [1]."), lint.UNGROUNDED),
        (brief(1, answer="it is kept in slot 4711 [1]."), lint.UNGROUNDED),
        (brief(1, answer="  "), lint.EMPTY),
        (brief(0, memory="another"), lint.AGAIN),
    ],
)
def test_what_is_unfit_is_dropped_with_its_reason(spoilt, reason):
    found = linted(brief(0), spoilt)
    assert found.lessons == (brief(0),)
    assert found.dropped[reason] == 1


def test_a_secret_in_a_prompt_is_one_too():
    spoilt = brief(1)
    spoilt = replace(spoilt, prompt=spoilt.prompt + "\nexport DB_PASSWORD=hunter2horses")
    assert linted(brief(0), spoilt).dropped == linted(brief(0)).dropped | {lint.SECRET: 1}


def test_what_is_asked_from_memory_is_held_against_its_sources():
    closed = brief(
        1,
        slice="fact",
        template="fact@0",
        prompt=prompting.recalling("which port?", "shop"),
        answer="`PORT_TABLE` 5433",
    )
    told = linted(closed, slices=("fact",), evidence={"memory 1": "PORT_TABLE says 5433"})
    assert told.lessons == (closed,)
    with pytest.raises(TrainingError, match="its sources"):
        linted(closed, slices=("fact",), evidence={"memory 1": "PORT_TABLE says 5432"})


def test_families_and_prompts_and_memories_of_probes_are_never_trained_on():
    probes = [
        Probe("fact", "", "some prompt", ("x",), "probe/noun", "memory 1", "2026-W05"),
        Probe("choice", "", brief(2).prompt, ("1",), "probe/prompt", "memory 3", "2026-W05"),
    ]
    found = linted(
        *(brief(0), brief(1), brief(2), brief(3), brief(4, family="probe/noun")),
        probes=probes,
    )
    kept = [each.memory for each in found.lessons]
    assert kept == ["memory 0", "memory 1"], "a fact that is probed may be taught in other words, a choice may not"
    assert found.dropped[lint.PROBED] == 3


def test_what_a_probe_asks_is_not_taught_among_other_lines_or_about_the_same_file_in_other_words():
    line = Offered(1, "a" * 16, 0, "edit", "*** Update File: src/till.py", "2026-02-01")
    probe = Probe(
        *("choice", "", prompting.choosing("What should I know before I change src/till.py?", [line]), ("1",)),
        *("probe/file/forward/0", "memory 9", "2026-W05"),
    )
    asked = prompting.choosing("src/till.py: what must I keep in mind?", [line])
    same = brief(1, slice="choice", prompt=asked, answer="1", family="train/file/forward/4")
    again = Probe("choice", "", brief(2).prompt, ("1",), "probe/prompt", "memory 8", "2026-W05")
    shuffled = brief(2, prompt=brief(2).prompt.replace("[1]", "[2]"), answer=NOTHING)
    found = linted(brief(0), same, shuffled, probes=[probe, again])
    assert found.lessons == (brief(0),)
    assert found.dropped[lint.PROBED] == 2


def test_the_words_of_a_probe_stand_in_no_lesson_and_no_text():
    asked = "Could you look up the port of the oven for me?"
    probe = Probe("fact", "", prompting.recalling(asked, "oven"), ("4477",), "probe/noun", "memory 1", "2026-W05")
    shown = Offered(1, "a" * 16, 0, "user", "could you look up the PORT\nof the oven, for me", "2026-02-01")
    planted = [
        brief(1, prompt=prompting.writing("what was I asked?", [shown])),
        brief(2, answer=f"I was asked: {asked}"),
        brief(3, prompt=prompting.remembering(f"user: {asked}\nagent: 4477", "oven"), slice="chunk"),
    ]
    texts = ("user: 'Could you look up the port of the oven for me?'", "the port of the oven is 4477")
    found = linted(brief(0), *planted, probes=[probe], texts=texts)
    assert (found.lessons, found.texts) == ((brief(0),), texts[1:])
    assert found.dropped == {lint.LEAKED: 3, lint.LEAKED_text: 1}
    assert linted(brief(0), texts=texts).texts == texts


def test_a_short_question_is_a_leak_only_with_its_answer_behind_it():
    probe = Probe("fact", "", prompting.recalling("which port?", "oven"), ("4477", "the usual"), "p", "m", "2026-W05")
    words = leaks.Wordings.of([probe])
    assert words.stand_in(f"{probe.prompt} 4477")
    assert words.stand_in("Which port? The usual.")
    assert not words.stand_in("which port? it is 4477")
    chinese = Probe("choice", "", "Question: 烤炉的端口是多少？", ("1",), "p", "m", "2026-W05")
    assert leaks.Wordings.of([chinese]).stand_in("用户：烤炉的端口是多少\n")
    assert not leaks.Wordings.of([probe, chinese]).stand_in("烤炉的颜色是多少, which port")


def test_an_answer_that_too_many_give_is_thinned_out():
    many = [
        brief(
            n, slice="fact", template="fact@0", prompt=f"Question: what of the {WORDS[n % 30]} {n}?", answer="pnpm test"
        )
        for n in range(40)
    ]
    others = [brief(n) for n in range(30)]
    found = linted(*many, *others)
    targets = [each.answer for each in found.lessons]
    assert lint.parrot_share(targets) <= lint.MAX_P4
    assert found.dropped[lint.PARROTED] >= 30
    assert sum(each in others for each in found.lessons) >= 29


def test_silence_and_numbers_have_shares_of_their_own():
    choices = [
        brief(n, slice="choice", template="choose@0", answer=NOBODY if n % 5 == 0 else str(n % 7 + 1))
        for n in range(30)
    ]
    silent = [brief(n + 60, answer=NOTHING, prompt=brief(n).prompt + f" {n} {n * n}") for n in range(3)]
    found = linted(*choices, *[brief(n + 30) for n in range(20)], *silent, slices=("choice", "brief"))
    assert all(each.passed for each in found.findings)
    told = " ".join(each.told for each in found.findings)
    assert "choices without an answer: 20%" in told


def test_choices_that_nearly_all_begin_alike_fail_the_gate():
    choices = [brief(n, slice="choice", template="choose@0", answer="1") for n in range(30)]
    failed = [each for each in linted(*choices, slices=("choice",)).findings if not each.passed]
    assert [each.told for each in failed] == ["choices that begin with one number: 100%, at most 40% are allowed."]


def test_template_text_is_counted_as_often_as_it_is_heard_and_repeats_give_way_to_its_cap():
    asked, told = brief(1, slice="fact"), brief(2)
    wordings = {asked.id: (60, 100), told.id: (20, 100)}
    times, finding = lint.templates_within([asked, told], {"fact": 2}, wordings, 0.5)
    assert (times, finding.passed, finding.figures["share"]) == ({"fact": 2, "brief": 1}, True, 140 / 300)
    times, finding = lint.templates_within([asked, told], {"fact": 10}, wordings, 0.5)
    assert (times, finding.passed, finding.figures["share"]) == ({"fact": 3, "brief": 1}, True, 0.5)


def test_too_much_template_text_fails_the_gate_where_nothing_is_repeated_any_more():
    asked = brief(1, slice="fact")
    times, finding = lint.templates_within([asked], {"fact": 3}, {asked.id: (70, 100)}, 0.5)
    assert (finding.gate, finding.passed, finding.figures["share"]) == ("G0", False, 0.7)
    assert times == {"fact": 3}, "to hear it less often would change nothing"


def test_a_slice_without_a_lesson_stops_the_run_and_says_how_to_go_on():
    with pytest.raises(TrainingError, match=r"'clue' is left .*--slices brief"):
        linted(brief(0), slices=("brief", "clue"))


def test_near_duplicates_are_those_that_share_most_word_triples():
    text = " ".join(WORDS)
    almost = text.replace("otter", "badger")
    other = " ".join(reversed(WORDS))
    found = list(near.pairs([near.shingles(each) for each in (text, almost, other, text)]))
    assert (0, 1) in found and (0, 3) in found
    assert not any(2 in pair for pair in found)


def test_many_near_duplicates_are_found_in_little_time():
    texts = [near.shingles(f"{WORDS[n % 30]} {n} {n * 7} {WORDS[(n * 7) % 30]} {n * n}") for n in range(3000)]
    twins = [*texts, *texts[:100]]
    assert {(n, 3000 + n) for n in range(100)} <= set(near.pairs(twins))


def fact(n: int, answer: str) -> Lesson:
    return brief(
        n, slice="fact", template="fact@0", prompt=f"Question: what of the {WORDS[n % 30]} {n}?", answer=answer
    )


def test_repeating_lessons_may_make_an_answer_too_frequent_that_was_not():
    common = [fact(n, f"pnpm {WORDS[n % 4]}") for n in range(32)]
    rare = [fact(100 + n, f"{WORDS[n % 30]} {n} {WORDS[(7 * n) % 30]}") for n in range(60)]
    briefs = [brief(n) for n in range(240)]
    lessons = [*common, *rare, *briefs]
    once = lint.as_heard(lessons, {})
    assert (once.num_dropped, once.lessons) == (0, tuple(lessons))
    assert once.finding.passed and once.finding.figures["num"] == len(lessons)
    often = lint.as_heard(lessons, {"fact": 10})
    assert 0 < often.num_dropped < len(common)
    assert often.finding.passed and often.finding.figures["share"] <= lint.MAX_P4
    assert set(lessons) - set(often.lessons) < set(common), "only what is too frequent goes"
    heard = [each.answer for each in often.lessons for _ in range(10 if each.slice == "fact" else 1)]
    assert lint.parrot_share(heard) <= lint.MAX_P4


def test_few_facts_keep_their_wordings_however_often_they_are_heard():
    lessons = [fact(6 * n + wording, f"{WORDS[n]} {n}") for n in range(12) for wording in range(6)]
    found = lint.as_heard(lessons, {"fact": 10})
    assert found.num_dropped == 0
    assert found.finding.figures["share"] == pytest.approx(4 / 12)
    lopsided = [fact(n, "pnpm test") for n in range(200)] + lessons
    assert lint.as_heard(lopsided, {"fact": 10}).num_dropped > 100


def test_silence_and_numbers_are_no_answers_that_are_heard_too_often():
    silent = [brief(n, answer=NOTHING) for n in range(30)]
    chosen = [brief(n, slice="choice", template="choose@0", answer="1") for n in range(30)]
    assert lint.as_heard([*silent, *chosen], {"choice": 10}).num_dropped == 0


def test_a_slice_that_a_memory_does_not_give_is_told_to_the_gate_though_the_run_goes_on():
    told = linted(brief(0), wanted=("brief", "clue", "fact")).findings[-1]
    assert told.passed
    assert "NONE of the kind clue, fact" in told.told
    assert "NONE" not in linted(brief(0), wanted=("brief",)).findings[-1].told
