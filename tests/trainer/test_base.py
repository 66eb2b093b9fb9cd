"""A base of our own: made from nothing, in parts, and never from the wordings that judge it."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from lmm_mcp.domain.lesson import SLICES
from lmm_mcp.errors import TrainingError
from lmm_mcp.model.network import fingerprint, load
from lmm_mcp.model.rendering import answer_ids, answer_text, prompt_ids
from trainer import base, base_texts
from trainer.base import make_base
from trainer.base_texts import FAMILIES, QUESTIONS, QUESTIONS_HERE, SEEKING, STATEMENTS, items


@pytest.mark.parametrize("stop_after", [None, 2])
def test_a_base_is_made_and_what_was_interrupted_goes_on_to_the_same_one(
    tmp_path: Path, stop_after: int | None
) -> None:
    heard: list[dict[str, object]] = []
    whole = tmp_path / "whole"
    assert make_base(whole, size="test", num_items=60, device="cpu", log=heard.append)
    assert [each.name for each in tmp_path.iterdir()] == ["whole"], "the workshop is cleared away"
    network = load(whole)
    assert network.card.num_parameters < 200_000
    losses = [float(str(line["loss_mean"])) for line in heard]
    assert losses[-1] < losses[0]
    if stop_after is not None:
        asked = iter(range(100))
        parts = tmp_path / "parts"
        assert not make_base(
            parts, size="test", num_items=60, device="cpu", should_stop=lambda: next(asked) >= stop_after
        )
        assert not parts.exists(), "a base is there whole or not at all"
        assert make_base(parts, size="test", num_items=60, device="cpu")
        one, other = network.model.state_dict(), load(parts).model.state_dict()
        assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
    else:
        assert make_base(tmp_path / "other", size="test", num_items=60, device="cpu", seed=1)
        assert fingerprint(tmp_path / "other") != fingerprint(whole)


def test_a_base_is_made_in_the_time_given_and_goes_on_to_what_was_counted_out_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "TRIAL_steps", 4)
    asked = iter(range(100))
    make_in_time = partial(make_base, tmp_path / "made", size="test", minutes=0.1, device="cpu")
    assert not make_in_time(should_stop=lambda: next(asked) >= 2)
    plan = tmp_path / ".made.making" / "plan.json"
    counted = json.loads(plan.read_text(encoding="utf-8"))["num_items"]
    assert counted >= 4 * 2048 // 60
    monkeypatch.setattr(base, "num_within", lambda *_: pytest.fail("it was counted out before"))
    assert make_in_time()
    assert load(tmp_path / "made").card.num_parameters < 200_000


def test_more_time_gives_a_base_more_to_learn_from_and_an_unknown_size_is_refused(tmp_path: Path) -> None:
    start = base.small_base(tmp_path / "start", [each.answer for each in items(0, 50)])
    recipe = base.RECIPE.but(base=str(start), device="cpu", tokens_per_step=512)
    some, more = (base.num_within(seconds, recipe, tmp_path / "trial") for seconds in (20, 200))
    assert more > 3 * some
    assert not (tmp_path / "trial").exists()
    with pytest.raises(TrainingError, match="there are test, small, default, medium"):
        make_base(tmp_path / "made", size="huge")


def test_tokens_that_no_text_of_a_base_holds_can_be_told_apart_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons = list(items(0, 20))
    network = load(base.small_base(tmp_path / "base", [each.answer for each in lessons]))
    table = network.model.get_input_embeddings().weight
    read = network.tokenizer
    seen = {n for each in lessons for n in (*prompt_ids(read, each.prompt), *answer_ids(read, each.answer))}
    backtick, tilde = (read.convert_tokens_to_ids(each) for each in "`~")
    assert not {backtick, tilde} & seen
    with torch.no_grad():
        table[backtick] = table[tilde]  # as training leaves them, which pushes both alike
    kept = table.detach().clone()[sorted(seen)]
    assert base.tell_unseen_apart(network.model, read, lessons, seed=0) == len(table) - len(seen)
    assert torch.equal(table[sorted(seen)], kept)
    assert (table[backtick] - table[tilde]).norm() > kept.norm(dim=1).median()

    told: list[int] = []
    real = base.tell_unseen_apart
    monkeypatch.setattr(base, "tell_unseen_apart", lambda *a, **b: told.append(real(*a, **b)))
    assert make_base(tmp_path / "made", size="test", num_items=20, device="cpu")
    assert told and told[0] > 0


def test_a_base_of_the_users_own_passages_has_their_words(tmp_path: Path) -> None:
    texts = ["zygomorphic_handler went wrong in the zygomorphic_handler queue"] * 30
    make_base(tmp_path / "own", texts=texts, size="test", num_items=20, device="cpu")
    make_base(tmp_path / "ours", size="test", num_items=20, device="cpu")
    own, ours = (len(load(tmp_path / each).tokenizer.encode(texts[0])) for each in ("own", "ours"))
    assert own < ours


def test_each_digit_is_a_token_and_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    make_base(tmp_path / "base", size="test", num_items=20, device="cpu")
    tokenizer = load(tmp_path / "base").tokenizer
    for said in ("5433", "redis 7.2.14", "[3] 2026-02-15 command: pytest -q", "10 3"):
        ids = answer_ids(tokenizer, said)
        assert answer_text(tokenizer, ids) == said
    digits = [tokenizer.decode([each]) for each in answer_ids(tokenizer, "port 80801")[:-1]]
    assert [each for each in digits if each.strip().isdigit()] == list("80801")
    prompt = "Lines of memory, quoted, newest value first where two disagree:\n[1] 2026-02-15 user: x"
    assert tokenizer.decode(prompt_ids(tokenizer, prompt)) == prompt


def test_items_are_the_same_for_a_seed_and_of_every_kind() -> None:
    assert list(items(3, 50)) == list(items(3, 50)) != list(items(4, 50))
    assert list(items(3, 50, start=20)) == list(items(3, 50))[20:]
    found = list(items(0, 600))
    assert {each.slice for each in found} >= {"choice", "brief", "fact"} and {each.slice for each in found} <= set(
        SLICES
    )


def test_chosen_lines_say_what_is_asked_and_briefs_quote_them() -> None:
    for each in items(0, 900):
        lines = dict(re.findall(r"^\[(\d+)\] \S+ \w+(?: \(superseded\))?: (.*)$", each.prompt, re.MULTILINE))
        if each.slice == "choice" and each.answer != "none":
            assert all(number in lines for number in each.answer.split())
        if each.slice == "brief" and each.answer != base_texts.ABSENT:
            for said, number in re.findall(r"(.+?) \[(\d+)\]\. ?", each.answer):
                assert lines[number].lower() == said.lower()


def test_a_base_has_seen_no_wording_by_which_lessons_ask_or_probes_judge() -> None:
    own = {_bare(each) for each in (*QUESTIONS, *QUESTIONS_HERE, *SEEKING, *STATEMENTS)}
    prompts = Path(__file__).parents[2] / "prompts"
    others = list(prompts.glob("phrasings_*.json"))
    assert others and len(FAMILIES) == len(QUESTIONS) + len(QUESTIONS_HERE) + len(SEEKING) + len(STATEMENTS)
    judged = {
        _bare(text)
        for file in others
        if "probe" in file.name
        for text in _texts(json.loads(file.read_text(encoding="utf-8")))
    }
    assert not own & judged


def _bare(template: str) -> str:
    return re.sub(r"\W+", " ", re.sub(r"[{$]\{?\w+\}?", "_", template)).strip().lower()


def _texts(tree: object) -> list[str]:
    if isinstance(tree, dict):
        return [text for each in tree.values() for text in _texts(each)]
    if isinstance(tree, list):
        return [text for each in tree for text in _texts(each)]
    return [str(tree)]
