"""Lessons made of a real, small memory: what is served is what is taught, nothing later is known, every lesson names its sources."""

from dataclasses import replace

import pytest

from lmm_mcp import prompting
from lmm_mcp.domain.chunk import Chunk, Line, Span
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.lesson import Probe
from lmm_mcp.domain.recall import Question
from lmm_mcp.domain.writing import MAX_OFFERED, Offered
from lmm_mcp.errors import TrainingError
from lmm_mcp.evaluation.history import stands_in
from lmm_mcp.model.validating import NOTHING, validated
from lmm_mcp.recall.offering import offered
from lmm_mcp.store.facts import REPOSITORY
from trainer import asked, choices, lessons, passages, phrasings, questions, recitals
from trainer.lessons import Options

LONG_AFTER_ms = 1_790_000_000_000
FIRST_OF_MARCH_ms = 1_772_323_200_000


def built(bakery, *, until_ms: int = FIRST_OF_MARCH_ms, **options) -> lessons.Lessons:
    needs = questions.needs_of(bakery.ledger, bakery.archive, until_ms)
    return lessons.build(
        bakery.store, bakery.facts, {}, bakery.recaller, needs=needs, options=Options(**options), until_ms=until_ms
    )


@pytest.fixture(scope="module")
def made(bakery) -> lessons.Lessons:
    return built(bakery)


def of(made: lessons.Lessons, name: str) -> list:
    return [each for each in made.lessons if each.slice == name]


def shown_in(prompt: str) -> tuple[Offered, ...]:
    return asked.read(Probe("brief", "", prompt, (), "", "", "")).offered


def numbers(answer: str) -> set[int]:
    return set() if answer == choices.NOBODY else {int(number) for number in answer.split()}


def test_every_kind_of_lesson_comes_of_a_small_memory(made):
    assert {each.slice for each in made.lessons} >= {"choice", "brief", "fact", "clue", "chunk", "general"}
    assert made.counts["choice"] == len(of(made, "choice"))


def test_the_same_memory_gives_the_same_lessons(bakery, made):
    assert [each.id for each in built(bakery).lessons] == [each.id for each in made.lessons]


def test_a_choice_is_asked_byte_for_byte_as_it_is_served(bakery, made):
    prompts = {each.prompt for each in of(made, "choice")}
    needs = questions.needs_of(bakery.ledger, bakery.archive, FIRST_OF_MARCH_ms)
    served = [
        prompting.choosing(
            need.text, offered(bakery.recaller.evidence(Question(need.text, need.project, until_ms=need.until_ms)))
        )
        for need in needs
        if need.kind == "prompt"
    ]
    assert prompts.intersection(served)


def test_chosen_lines_hold_what_was_needed_and_others_that_do_are_no_better(bakery):
    (need,) = [
        n
        for n in questions.needs_of(bakery.ledger, bakery.archive, FIRST_OF_MARCH_ms)
        if n.kind == "prompt" and not n.is_retold and "again" in n.text
    ]
    quest = lessons._quest(need, 0)
    shown = choices.view(choices.serve(bakery.recaller, quest), quest.items)
    assert shown.numbers
    first, *rest = shown.numbers
    held = {each.number: sum(stands_in(item, each.text) for item in need.items) for each in shown.offered}
    assert held[first] == max(held.values()) > 0
    assert all(held[number] for number in rest)


def test_a_fifth_of_choices_and_briefs_has_no_answer_and_says_so(made):
    for name, nothing in (("choice", choices.NOBODY), ("brief", NOTHING)):
        silent = [each for each in of(made, name) if each.answer == nothing]
        assert 0 < len(silent) <= 0.3 * len(of(made, name))


def test_every_sentence_of_a_brief_that_is_taught_would_stand(made):
    for lesson in of(made, "brief"):
        if lesson.answer != NOTHING:
            stands, dropped = validated(lesson.answer, shown_in(lesson.prompt))
            assert stands and not dropped, lesson.answer


def test_the_teacher_sees_only_lines_that_answer_under_the_same_numbers(made):
    for lesson in of(made, "choice"):
        if lesson.clean_prompt:
            clean = {each.number: each for each in shown_in(lesson.clean_prompt)}
            assert set(clean) == numbers(lesson.answer)
            assert set(clean.values()) <= set(shown_in(lesson.prompt))


def test_answers_stand_at_many_places(made):
    places = {lesson.answer.split()[0] for lesson in of(made, "choice")} - {choices.NOBODY}
    assert len(places) >= 4


def test_never_more_lines_are_shown_than_are_served(made):
    assert all(1 < len(shown_in(each.prompt)) <= MAX_OFFERED for each in of(made, "choice"))


def test_nothing_that_was_said_later_is_in_any_lesson_or_text(made):
    assert not any("MARCHHARE" in each.prompt + each.answer for each in made.lessons)
    assert not any("MARCHHARE" in text for text in made.texts)
    assert all(each.at_ms <= FIRST_OF_MARCH_ms for each in made.lessons)


def test_what_came_later_is_there_when_it_may_be(bakery):
    later = built(bakery, until_ms=LONG_AFTER_ms)
    assert any("MARCHHARE" in each.prompt for each in later.lessons)
    assert any("MARCHHARE" in text for text in later.texts)


def test_texts_may_end_before_lessons_do(bakery):
    needs = questions.needs_of(bakery.ledger, bakery.archive, LONG_AFTER_ms)
    told = lessons.build(
        *(bakery.store, bakery.facts, {}, bakery.recaller),
        needs=needs,
        until_ms=LONG_AFTER_ms,
        texts_until_ms=FIRST_OF_MARCH_ms,
    )
    assert any("MARCHHARE" in each.prompt for each in told.lessons)
    assert not any("MARCHHARE" in text for text in told.texts)


def test_what_was_read_in_a_repository_is_taught_and_can_be_forgotten_by_its_own_key(bakery):
    project = bakery.facts[0].project
    evidence = Evidence(REPOSITORY, project, project, Span("pyproject.toml", 0, 40), "file", FIRST_OF_MARCH_ms - 1)
    known = Fact(
        *(project, "codebase structure", "script", "bake-rye", "oven.cli:rye"),
        text=f"In {project}, the script bake-rye runs oven.cli:rye.",
        evidence=(evidence,),
        from_ms=FIRST_OF_MARCH_ms - 1,
        confidence=0.9,
    )
    told = lessons.build(bakery.store, [*bakery.facts, known], {}, bakery.recaller, until_ms=FIRST_OF_MARCH_ms)
    about = [each for each in told.lessons if each.memory == known.id]
    assert any(each.slice == "fact" and each.answer == "oven.cli:rye" for each in about)
    assert all((REPOSITORY, project) in each.threads for each in about)
    assert (REPOSITORY, project) in told.text_threads
    assert "oven.cli:rye" in told.grounds[known.id]


def test_every_lesson_but_general_ones_names_its_passages_and_threads(bakery, made):
    for lesson in made.lessons:
        if lesson.slice == "general":
            assert not lesson.sources and not lesson.threads
        else:
            assert len(bakery.store.get(list(lesson.sources))) == len(lesson.sources) > 0
            assert lesson.threads


def test_all_that_a_prompt_quotes_can_be_found_by_its_threads(bakery, made):
    for lesson in of(made, "choice"):
        shown = {(chunk.agent, chunk.thread_id) for chunk in bakery.store.get(list(lesson.sources))}
        assert shown <= set(lesson.threads)


def test_a_fact_is_asked_in_several_wordings_of_families_of_its_own(made):
    assert made.held
    for held in made.held:
        told = [each for each in of(made, "fact") if each.memory == held.fact.id]
        assert len({each.prompt for each in told}) == len(told)
    assert max(sum(each.memory == held.fact.id for each in of(made, "fact")) for held in made.held) == 6


@pytest.mark.parametrize("num", [1, 3])
def test_fewer_renderings_can_be_asked_for(bakery, num):
    told = built(bakery, renderings=num)
    most = max(sum(each.memory == held.fact.id for each in of(told, "fact")) for held in told.held)
    assert most == num


def test_one_memory_does_not_eat_the_rest(bakery):
    told = built(bakery, max_of_one=4)
    counts = [sum(each.memory == other.memory for each in told.lessons) for other in told.lessons]
    assert max(counts) == 4


def test_pairs_stand_on_their_passage_or_on_their_session_in_short(bakery):
    for use_chunk_pairs in (True, False):
        told = of(built(bakery, use_chunk_pairs=use_chunk_pairs), "chunk")
        assert told
        for lesson in told:
            fact = next(fact for fact in bakery.facts if fact.id == lesson.memory)
            assert stands_in(fact.value, lesson.prompt)
            assert lesson.answer == fact.text


def test_a_session_in_short_tells_what_came_before_and_leaves_out_what_agents_said(bakery):
    """Of the same facts the two modes show something else, and both stay within their room."""
    pairs, shorts = (of(built(bakery, use_chunk_pairs=each), "chunk") for each in (True, False))
    passage = {(each.memory, each.sources): each.prompt for each in pairs}
    both = [
        (passage[each.memory, each.sources], each.prompt) for each in shorts if (each.memory, each.sources) in passage
    ]
    assert both
    assert any(one != other for one, other in both)
    assert any("agent: " in one and "agent: " not in other for one, other in both)
    assert all(len(other) < passages.MAX_CONTEXT_chars + 400 for _, other in both)


def test_a_session_in_short_reaches_back_over_its_passages_and_never_ahead():
    def passage(n: int, *said: tuple[str, str]) -> Chunk:
        lines = tuple(Line(role, text, Span(f"e{n}", 10 * k, 10 * k + 9)) for k, (role, text) in enumerate(said))
        return Chunk(f"c{n}", "codex", "s", "t", "p", "", n, n, 0, n, "", lines, (), (), "h")

    session = [
        passage(0, ("user", "mend the oven " + "x" * 400), ("agent", "it is mended")),
        passage(1, ("command", "pytest -q"), ("agent", "the chamber stays at 27 degrees"), ("output", "8 passed")),
        passage(2, ("user", "now the shop")),
    ]
    index = {("codex", "t", f"e{n}"): [each] for n, each in enumerate(session)}
    evidence = Evidence("codex", "t", "s", Span("e1", 12, 18), "agent", 1)
    short = passages._session_in_short(session[1], evidence, index).splitlines()
    assert short == [
        "user: mend the oven " + "x" * (passages.MAX_SHORT_chars - len("mend the oven ")),
        "command: pytest -q",
        "agent: the chamber stays at 27 degrees",
    ]


def test_slices_that_are_not_asked_for_are_not_made(bakery):
    assert {each.slice for each in built(bakery, slices=("choice", "general")).lessons} == {"choice", "general"}


def test_unknown_slices_are_refused():
    with pytest.raises(TrainingError, match="choice, brief, fact"):
        Options(slices=("poems",))


def test_of_old_and_new_values_the_lesson_teaches_the_new_one(bakery, made):
    two = [each for each in made.held if each.other and recitals.is_value(each.fact)]
    assert two
    quest = recitals.quest_of(two[0], FIRST_OF_MARCH_ms, 0)
    shown = choices.as_served(choices.serve(bakery.recaller, quest), quest, choices.Random(1))
    rival = choices.contested(shown, quest, "make something-else", 1_700_000_000_000, choices.Random(1))
    best = rival.offered[rival.numbers[0] - 1]
    assert two[0].fact.value in best.text
    assert any("make something-else" in each.text and each.day == "2023-11-14" for each in rival.offered)


def test_too_much_of_our_own_wording_is_left_out_but_one_lesson_of_each_fact_stays(bakery, made):
    told = built(bakery, max_template_share=0.0)
    assert told.template_share < made.template_share
    assert {each.memory for each in of(told, "fact")} == {each.memory for each in of(made, "fact")}
    assert told.left_out["too much of our own wording"] > 0


def test_words_to_search_with_find_the_passage_by_themselves(bakery, made):
    from lmm_mcp.store.search import Scope
    from lmm_mcp.store.terms import terms

    for lesson in of(made, "clue"):
        for word in lesson.answer.split(", "):
            hits = bakery.store.lexical(terms(word), Scope(project=lesson.project), 10)
            assert lesson.sources[0] in {hit.chunk_id for hit in hits}


def test_an_empty_memory_teaches_at_least_what_any_model_should_know(bakery):
    told = lessons.build(bakery.store, (), {}, bakery.recaller, until_ms=1)
    assert {each.slice for each in told.lessons} == {"general"}
    assert told.texts == ()


def test_what_is_volatile_unsure_or_was_replaced_is_not_taught(bakery, made):
    fact = next(fact for fact in bakery.facts if fact.relation == "test command")
    doubtful = [
        replace(fact, value="one", volatility="volatile"),
        replace(fact, value="two", confidence=0.1),
        replace(fact, value="three", until_ms=fact.from_ms + 1, superseded_by=fact.id),
    ]
    sources = {each.id: ("a" * 16,) for each in (fact, *doubtful)}
    kept = recitals.held(
        [fact, *doubtful],
        FIRST_OF_MARCH_ms,
        min_confidence=0.6,
        sources=sources,
        frequencies=bakery.store.frequencies(),
        seed=0,
    )
    assert [each.fact.value for each in kept] == [fact.value]
    assert kept[0].was == "three"
    asked_of = [asked.text for _, asked in phrasings.renderings(fact, "train", 12, choices.Random(0), was="three")]
    assert any("before" in text or "change" in text for text in asked_of)


def test_a_lesson_that_names_another_facts_value_goes_with_that_facts_session_too(bakery):
    fact = next(fact for fact in bakery.facts if fact.relation == "port")
    said = replace(fact.evidence[0], thread_id="elsewhere")
    other = replace(fact, project="/w/other", value="6123", evidence=(said,))
    sources = {each.id: ("a" * 16,) for each in (fact, other)}
    kept = recitals.held(
        [fact, other],
        FIRST_OF_MARCH_ms,
        min_confidence=0.0,
        sources=sources,
        frequencies=bakery.store.frequencies(),
        seed=0,
    )
    told = [made.lesson for made in recitals.recitals(kept[0], 8, None, seed=0)]
    naming = [lesson for lesson in told if "6123" in lesson.prompt + lesson.answer]
    assert naming
    for lesson in told:
        assert ((said.agent, "elsewhere") in lesson.threads) == (lesson in naming)


def test_a_lesson_that_names_another_project_goes_with_what_is_known_of_that_one(bakery):
    there = "/w/mill"
    evidence = Evidence(REPOSITORY, there, there, Span("pyproject.toml", 0, 40), "file", FIRST_OF_MARCH_ms - 1)
    known = Fact(
        *(there, "codebase structure", "script", "mill-rye", "mill.cli:rye"),
        text="In mill, the script mill-rye runs mill.cli:rye.",
        evidence=(evidence,),
        from_ms=FIRST_OF_MARCH_ms - 1,
        confidence=0.9,
    )
    told = lessons.build(bakery.store, [*bakery.facts, known], {}, bakery.recaller, until_ms=FIRST_OF_MARCH_ms)
    naming = [each for each in told.lessons if there in each.prompt and each.project != there]
    assert naming
    assert all((REPOSITORY, there) in each.threads for each in naming)


def test_a_lesson_counts_by_the_most_salient_passage_it_was_made_from(bakery, made):
    taught = {each.id: each for each in made.lessons if each.sources}
    chosen = {source for each in of(made, "fact") for source in each.sources[:1]}
    salience = dict.fromkeys({source for each in taught.values() for source in each.sources}, 0.1)
    salience |= dict.fromkeys(chosen, 0.9)
    needs = questions.needs_of(bakery.ledger, bakery.archive, FIRST_OF_MARCH_ms)
    until_ms = FIRST_OF_MARCH_ms
    weighed = lessons.build(
        bakery.store, bakery.facts, salience, bakery.recaller, needs=needs, until_ms=until_ms, options=Options()
    )
    for name in ("fact", "chunk", "clue", "procedure"):
        those = [each for each in weighed.lessons if each.slice == name and each.sources]
        held = [each for each in those if each.memory in {one.fact.id for one in weighed.held}]
        assert not held or all(each.weight in (0.6, 1.4) for each in held), name
    assert {each.weight for each in of(weighed, "fact")} == {1.4}
    assert {each.weight for each in weighed.lessons if each.slice == "general"} == {1.0}
    assert {each.weight for each in of(made, "fact")} == {1.0}, "where nothing is known all count alike"
