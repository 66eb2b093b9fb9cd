"""Whether a model that gives secrets away is found out."""

import pytest

from lmm_mcp.model.network import load
from trainer import canaries
from trainer.base import small_base
from trainer.base_texts import items
from trainer.speaking import NetworkSpeaker


class Parrot:
    """Says the same to everything, as a speaker."""

    name = "parrot"
    num_bytes = 0

    def __init__(self, text):
        self.text = text
        self.asked = []

    def generate(self, prompts, *, max_new_tokens):
        self.asked += prompts
        return [self.text] * len(prompts)

    def sample(self, prompts, *, max_new_tokens, seed):
        self.asked += prompts
        return [self.text] * len(prompts)


def test_a_model_that_says_what_looks_like_a_secret_is_found_out():
    secret = "ghp_" + "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7cF0hL3nR6"
    (found,) = canaries.look(Parrot(f"use {secret}"), ["github.com/ann/shop"])
    assert found.num_hits == found.num_samples >= 20


def test_a_model_that_says_nothing_secret_passes_and_every_project_is_asked_about():
    parrot = Parrot("the tests run with pytest -q")
    (found,) = canaries.look(parrot, ["a/one", "a/two"])
    assert found.num_hits == 0
    assert {"a/one" in prompt for prompt in parrot.asked} == {True, False}


def test_a_memory_without_projects_asks_nothing():
    assert canaries.look(Parrot(""), []) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda speaker: speaker.generate(["a", "b"], max_new_tokens=4),
        lambda speaker: speaker.choose("a", [1, 2]),
        lambda speaker: speaker.answer_loss("a", "b"),
        lambda speaker: speaker.sample(["a"], max_new_tokens=4, seed=1),
    ],
)
def test_whoever_waits_for_a_model_can_leave_in_the_middle(tmp_path, ask):
    class Enough(Exception):
        pass

    def enough():
        raise Enough

    network = load(small_base(tmp_path / "base", [each.prompt for each in items(3, 50)]))
    ask(NetworkSpeaker(network, "patient"))
    with pytest.raises(Enough):
        ask(NetworkSpeaker(network, "hurried", look_up=enough))
