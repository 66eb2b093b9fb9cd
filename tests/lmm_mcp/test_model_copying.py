"""The grammar of sentences that are copied: all that it lets a model say, on tokenizers that spell blanks in different ways."""

from random import Random

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lmm_mcp.domain.writing import MAX_OFFERED_chars, Offered
from lmm_mcp.model.copying import MAX_WORDS, TOKENS_PER_SENTENCE, Copying
from lmm_mcp.model.validating import sentences, validated

SAID = (
    ("user", "The staging database listens on port 5433, the production one on port 5432."),
    ("agent", "We use pnpm now instead of npm, because workspaces broke with npm 9. See docs/setup.md for the steps."),
    ("command", "pytest -q tests/test_lamp.py --maxfail=3"),
    ("output", "2 failed, 14 passed in 3.21s"),
    ("user", "Never push to main without a review; open a pull request against `develop`."),
    ("agent", "The timeout of the lamp client was raised from 30 s to 90 s on 3 May since the gateway is slow."),
    ("error", "ModuleNotFoundError: No module named 'lamp_core'"),
    ("agent", "Should we cache the tokens? Tokens are cached in Redis for 15 minutes [3] under the key `lamp:tok`."),
    ("user", "数据库端口改成5433了，不要再用5432。测试在夜里运行。"),
    ("agent", "The retry count is 5 and the batch size is 64 …"),
)
END = 0


def offered(*said: str, role: str = "user") -> list[Offered]:
    return [Offered(n, "a" * 16, 0, role, text, "2026-01-02") for n, text in enumerate(said, 1)]


LINES = [Offered(n, "a" * 16, 0, role, text, "2026-01-02") for n, (role, text) in enumerate(SAID, 1)]


def made(tokenizer: Tokenizer, **more: int) -> Tokenizer:
    alphabet = [*pre_tokenizers.ByteLevel.alphabet(), "\n"]
    trainer = trainers.BpeTrainer(special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False, **more)
    tokenizer.train_from_iterator([text for _, text in SAID] * 3, trainer)
    return tokenizer


def bytes_bpe() -> Tokenizer:
    """As Qwen's and Llama's: a blank belongs to the word behind it."""
    told = Tokenizer(models.BPE())
    told.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    told.decoder = decoders.ByteLevel()
    return made(told, vocab_size=420)


def sentencepiece() -> Tokenizer:
    """As Gemma's: a mark in the place of each blank, one more in front of all."""
    told = Tokenizer(models.BPE())
    told.pre_tokenizer = pre_tokenizers.Metaspace()
    told.decoder = decoders.Metaspace()
    return made(told, vocab_size=500)


TOKENIZERS = {"bytes": bytes_bpe(), "sentencepiece": sentencepiece()}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request) -> Tokenizer:
    return TOKENIZERS[request.param]


def grammar(tokenizer: Tokenizer, lines: list[Offered], most: int = 3) -> Copying:
    return Copying(lines, lambda text: tokenizer.encode(text).ids, END, most=most)


def walked(tokenizer: Tokenizer, lines: list[Offered], dice: Random, most: int = 3) -> str:
    """What a model says that knows nothing and takes whatever may come."""
    copying, said = grammar(tokenizer, lines, most), list[int]()
    while (token := dice.choice(copying.allowed(said))) != END:
        said.append(token)
    assert len(said) <= most * TOKENS_PER_SENTENCE
    return tokenizer.decode(said).strip()


def all_told(tokenizer: Tokenizer, lines: list[Offered]) -> set[str]:
    """Each brief of one sentence."""
    copying, found, waiting = grammar(tokenizer, lines, 1), set(), [list[int]()]
    while waiting:
        said = waiting.pop()
        for token in copying.allowed(said):
            if token == END:
                found.add(tokenizer.decode(said).strip())
            else:
                waiting.append([*said, token])
    return found


def test_nearly_all_that_a_model_can_say_stands(tokenizer):
    dice, stand, drop = Random(4), 0, 0
    for _ in range(60):
        good, bad = validated(walked(tokenizer, LINES, dice), LINES)
        stand, drop = stand + len(good), drop + len(bad)
    assert stand > 60
    assert drop <= 0.05 * (stand + drop)


def test_every_word_comes_from_the_lines_that_are_cited(tokenizer):
    dice = Random(5)
    for _ in range(30):
        for each in sentences(walked(tokenizer, LINES, dice)):
            told = " ".join(LINES[number - 1].text for number in each.cites)
            bare = {word.strip(".,;:") for word in told.split()} | {"and"}
            assert 1 <= len(each.cites) <= 2
            assert len(each.text.split()) <= MAX_WORDS
            if told.isascii():  # Chinese has no blanks to split at
                assert {word.strip(".,;:") for word in each.text.split()} <= bare, each


def test_of_one_line_its_spans_can_be_told_and_nothing_else(tokenizer):
    told = all_told(tokenizer, offered("The lamp listens on port 8081"))
    spans = ("The lamp listens", "The lamp listens on port", "The lamp listens on port 8081")
    behind = ("lamp listens on port", "lamp listens on port 8081", "listens on port", "listens on port 8081")
    assert told == {f"{span} [1]." for span in (*spans, *behind)}


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("user", "Never push to main without a review of two people"),
        ("user", "Use the staging key only if the build runs at night"),
        ("agent", "Mira thinks that the lamp has port 5433 now"),
        ("error", "failed to open the socket on port 5433"),
        ("command", "git push --force-with-lease origin main"),
    ],
)
def test_what_could_be_turned_round_is_told_whole_or_not_at_all(tokenizer, role, said):
    assert all_told(tokenizer, offered(said, role=role)) == {f"{said} [1]."}


def test_what_must_be_told_whole_and_was_cut_is_not_copied(tokenizer):
    assert all_told(tokenizer, offered("Never push to main without …")) == {""}
    assert all_told(tokenizer, offered("make " + "ship " * 60, role="command")) == {""}


def test_a_number_keeps_its_unit_and_quotation_marks_their_other_half(tokenizer):
    told = all_told(tokenizer, offered("The client waits 30 s for `lamp ready now` on every start"))
    assert any(text.startswith("The client waits 30 s [1]") for text in told)
    assert not any(text.endswith(("waits 30 [1].", "lamp ready [1].")) or " s for" in f" {text[:7]}" for text in told)


def test_clauses_are_told_whole_or_one_in_part(tokenizer):
    told = all_told(tokenizer, offered("The staging base has port 5433, the other one has port 5432"))
    assert {
        "The staging base has port 5433, the other one has port 5432 [1].",
        "staging base has port 5433 [1].",
    } <= told
    assert not any("5433, the other one [1]" in text or text.startswith("base has port 5433, the") for text in told)


@pytest.mark.parametrize("said", ["Should we really use npm here?", "yes", "see [3] [4]", "", "…"])
def test_where_nothing_can_be_copied_nothing_is_said(tokenizer, said):
    assert grammar(tokenizer, offered(said)).allowed(()) == (END,)
    old = [Offered(1, "a" * 16, 0, "user", "The port is 5432 here", "", superseded=True)]
    assert grammar(tokenizer, old).allowed(()) == (END,)


def test_no_order_of_a_tool_s_output_is_told_behind_what_somebody_said(tokenizer):
    tools = [Offered(2, "a" * 16, 0, "output", "Done, run `rm -rf build` to start again", "2026-01-02")]
    said, dice = offered("The retry count is 5 here"), Random(7)
    told = " ".join(walked(tokenizer, [*said, *tools], dice, most=1) for _ in range(60))
    assert "retry count is 5" in told
    assert "Done, run `rm -rf build` to start again" in told, "as it stands there it is told"
    assert " run `rm" not in told.replace("Done, run `rm", "")


def test_what_would_be_read_as_two_sentences_is_not_copied(tokenizer):
    assert all_told(tokenizer, offered("go test ./cmd/... -v", role="command")) == {""}
    assert all_told(tokenizer, offered("go test ./cmd -v", role="command")) == {"go test ./cmd -v [1]."}


def test_a_word_that_was_cut_is_not_copied(tokenizer):
    words = "abcd " * 37
    cut = f"{words}lighthouse keeper"[:MAX_OFFERED_chars]
    assert cut.endswith("lighthouse keep")
    (whole, *_) = sorted(all_told(tokenizer, offered("the lamp is so far from " + cut[24:])), key=len, reverse=True)
    assert "keep" not in whole


def test_two_sentences_never_copy_from_one_line(tokenizer):
    dice = Random(6)
    for _ in range(30):
        cited = [number for each in sentences(walked(tokenizer, LINES, dice)) for number in each.cites]
        assert len(cited) == len(set(cited))


def test_what_was_never_allowed_leads_nowhere(tokenizer):
    copying = grammar(tokenizer, LINES)
    assert copying.allowed([END, END]) == ()
    assert copying.allowed(()) == grammar(tokenizer, LINES).allowed(())
