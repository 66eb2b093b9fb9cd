"""A small real network, untrained or taught one answer: decoding, the grammar of choices, and what a batch must not change."""

import json
from dataclasses import replace

import pytest

from lmm_mcp.domain.writing import MAX_CHOSEN
from lmm_mcp.model.choosing import Choices, answer, parse

torch = pytest.importorskip("torch")

from lmm_mcp.model import generate, network, rendering  # noqa: E402 - these need torch

PROMPTS = ["which port does the cache use", "Question: why?\n[1] 2026-01-01 user: because", "x" * 90, "port"]


@pytest.fixture(scope="module")
def asked(small_models):
    return network.load(small_models / "base")


def greedy(asked, prompt: str, size: int) -> str:
    """The same without a cache, a batch or a grammar: the slow truth."""
    ids, said = rendering.prompt_ids(asked.tokenizer, prompt), []
    end = rendering.end_id(asked.tokenizer)
    for _ in range(size):
        with torch.no_grad():
            token = int(asked.model(input_ids=torch.tensor([ids + said])).logits[0, -1].argmax())
        if token == end:
            break
        said.append(token)
    return rendering.answer_text(asked.tokenizer, said)


def test_a_batch_with_a_cache_says_what_each_prompt_alone_says_without_one(asked):
    assert generate.generate(asked, PROMPTS, max_new_tokens=12) == [greedy(asked, each, 12) for each in PROMPTS]


def test_no_prompts_have_no_answers(asked):
    assert generate.generate(asked, [], max_new_tokens=5) == []


def test_decoding_stops_at_the_token_that_ends_an_answer(small_models):
    taught = network.load(small_models / "base", adapter=small_models / "says-two")
    assert generate.generate(taught, PROMPTS, max_new_tokens=40) == ["2"] * len(PROMPTS)


@pytest.mark.parametrize("num_offered", [1, 3, 12])
def test_a_constrained_answer_of_an_untrained_model_is_always_legal(asked, num_offered):
    offered = list(range(1, num_offered + 1))
    choices = generate.choices_for(asked, offered)
    for text in generate.generate(asked, PROMPTS, max_new_tokens=generate.MAX_CHOICE_tokens, constraint=choices):
        assert parse(text, offered) is not None, text


def test_each_prompt_of_a_batch_may_have_a_grammar_of_its_own(asked):
    few, many = generate.choices_for(asked, [7]), generate.choices_for(asked, range(1, 13))
    texts = generate.generate(asked, PROMPTS, max_new_tokens=24, constraint=[few, many, few, many])
    assert all(parse(text, [7]) is not None for text in (texts[0], texts[2]))


def test_a_taught_model_chooses_what_it_was_taught_and_is_sure_of_it(small_models):
    for name, chosen in (("says-two", (2,)), ("says-none", ())):
        taught = network.load(small_models / "base", adapter=small_models / name)
        found = generate.choose(taught, PROMPTS[0], [1, 2, 3])
        assert found.chosen == chosen
        assert found.confidence > 0.9


def test_what_a_model_was_not_offered_it_cannot_choose(small_models):
    taught = network.load(small_models / "base", adapter=small_models / "says-two")
    assert set(generate.choose(taught, PROMPTS[0], [1, 3]).chosen) <= {1, 3}


def test_a_choice_stops_at_the_deadline(asked):
    with pytest.raises(generate.TooLate):
        generate.choose(asked, PROMPTS[0], [1, 2], is_late=lambda: True)


def test_the_loss_of_an_answer_is_the_median_over_its_tokens(asked):
    prompt, said = "port", "the cache has a port"
    before = rendering.prompt_ids(asked.tokenizer, prompt)
    after = rendering.answer_ids(asked.tokenizer, said)
    with torch.no_grad():
        shares = asked.model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
    losses = sorted(-float(shares[len(before) + n - 1, token]) for n, token in enumerate(after))
    assert generate.answer_loss(asked, prompt, said) == pytest.approx(losses[(len(losses) - 1) // 2], abs=1e-4)
    assert len(set(losses)) > 1


def test_training_goes_on_where_it_was_after_something_was_generated(small_models):
    taught = network.load(small_models / "base", adapter=small_models / "says-two", trainable=True)
    taught.model.train()
    generate.generate(taught, PROMPTS[:1], max_new_tokens=2)
    assert taught.model.training


SPELLINGS = {
    "a token for each character": lambda text: [ord(char) for char in text],
    "a token for each word": lambda text: [
        {"none": 1, **{str(n): n + 1 for n in range(1, 99)}}[word] for word in text.split()
    ],
    "a blank of its own": lambda text: [
        number for word in text.split() for number in (32, *(ord(char) for char in word))
    ],
    "blank and word in one": lambda text: [
        1000 + sum(ord(char) * 7**n for n, char in enumerate(w)) for w in text.split()
    ],
}


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("offered", [(1, 2), (1, 2, 11, 12)], ids=str)
def test_the_grammar_allows_every_legal_answer_and_nothing_else(spell, offered):
    choices = Choices(offered, spell, end=-1)
    reached = set()
    waiting = [()]
    while waiting:
        said = waiting.pop()
        for token in choices.allowed(said):
            if token == -1:
                reached.add(said)
            else:
                waiting.append((*said, token))
    legal = [()]
    for chosen in legal:
        legal += [(*chosen, n) for n in offered if n not in chosen and len(chosen) < MAX_CHOSEN]
    assert reached == {tuple(spell(answer(chosen))) for chosen in legal}


def test_what_is_no_beginning_of_an_answer_allows_nothing():
    assert Choices((1, 2), SPELLINGS["a token for each character"], end=-1).allowed([ord("x")]) == ()


@pytest.mark.parametrize("text", ["", "1,2", "4", "1 1", "none 1", "1 2 3 4 5 6", "01", "²", "1\n2 x"])
def test_what_the_grammar_does_not_allow_is_no_choice(text):
    assert parse(text, (1, 2, 3)) is None


def test_the_small_models_are_small(small_models):
    shape = json.loads((small_models / "base" / "config.json").read_text(encoding="utf-8"))
    assert shape["model_type"] == "qwen3"
    assert network.load(small_models / "base").card.num_parameters < 200_000


def test_of_a_prompt_beyond_the_context_the_middle_goes(asked):
    small = replace(asked, card=replace(asked.card, context_tokens=40))
    widths: list[int] = []
    ids = rendering.prompt_ids(asked.tokenizer, "first " + "x y " * 200 + " last")
    hook = asked.model.register_forward_pre_hook(
        lambda _model, _given, named: widths.append(
            named["attention_mask"].shape[1] if named["attention_mask"] is not None else named["input_ids"].shape[1]
        ),
        with_kwargs=True,
    )
    try:
        generate.generate(small, ["first " + "x y " * 200 + " last"], max_new_tokens=8)
        generate.generate(small, ["port", "first " + "x y " * 200 + " last"], max_new_tokens=8)
    finally:
        hook.remove()
    assert max(widths) <= 40
    kept = generate._fitting(small, ids, 8)
    assert (len(kept), kept[:16], kept[16:]) == (32, ids[:16], ids[-16:])
    assert generate._fitting(small, ids[:32], 8) == ids[:32]
