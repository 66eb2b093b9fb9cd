"""Families of phrasings: those of probes share nothing with those of lessons."""

from itertools import product
from random import Random

from lmm_mcp.domain.fact import Fact
from trainer import near, phrasings

PORT = Fact("p", "project fact", "port", "postgres", "5433", "The port of postgres is 5433.", (), 1_772_000_000_000)
DECISION = Fact("p", "decision", "decision", "", "We keep carts in Redis.", "Decided: We keep carts in Redis.", (), 1)


def templates(book: phrasings.Book) -> list[str]:
    return [each for forms in phrasings.families(book).values() for those in forms.values() for each in those]


def test_no_probe_asks_in_words_that_a_lesson_has():
    for taught, probed in product(templates("train"), templates("probe")):
        alike = near.overlap(frozenset(taught.lower().split()), frozenset(probed.lower().split()))
        assert taught != probed and alike < 0.6, (taught, probed)


def test_families_are_named_by_their_book():
    taught = phrasings.renderings(PORT, "train", 6, Random(1), other="5432")
    probed = phrasings.renderings(PORT, "probe", 3, Random(1), other="5432")
    assert {asked.family.split("/")[0] for _, asked in taught} == {"train"}
    assert {asked.family.split("/")[0] for _, asked in probed} == {"probe"}


def test_renderings_differ_and_ask_in_several_forms():
    found = phrasings.renderings(PORT, "train", 6, Random(3), other="5432", was="5431")
    assert len({asked.text for _, asked in found}) == 6
    assert {form for form, _ in found} >= {"forward", "reverse", "yes", "changed"}


def test_a_forward_question_does_not_give_its_answer_away():
    for number in range(12):
        for book in ("train", "probe"):
            assert "5433" not in phrasings.asks(PORT, book, "forward", number).text
            asked = phrasings.asks(DECISION, book, "forward", number).text
            assert not ("carts" in asked and "Redis" in asked)


def test_template_text_is_counted_without_what_fills_it():
    asked = phrasings.asks(PORT, "train", "forward", 0)
    assert asked.text == "What is the port of postgres?"
    assert asked.template_chars == len("What is the  of ?")


def test_answers_say_the_value_also_where_they_say_yes_or_no():
    for form in ("forward", "yes", "no", "as of", "reverse"):
        assert "5433" in phrasings.answer_to(PORT, form)
    assert phrasings.answer_to(PORT, "changed", was="5432") == "It was 5432 until 2026-02-25, now it is 5433."


def test_a_sentence_is_asked_about_by_its_rare_words():
    rarity = {"carts": 5.0, "Redis": 6.0, "keep": 0.5}.get
    said = "We keep carts of wood in Redis near the barn, don't we?"
    assert phrasings.topic_of(said, lambda word: rarity(word, 0.0)) == "carts Redis"


def test_every_group_that_a_relation_leads_to_can_be_asked_about():
    from lmm_mcp.domain.relations import RELATIONS

    for relation in RELATIONS.values():
        subject = "thing" if "{subject}" in relation.sentence else ""
        fact = Fact("p", relation.category, relation.name, subject, "the-value of old barns", relation.name, (), 1)
        assert phrasings.renderings(fact, "train", 3, Random(0), other="another"), relation.name
