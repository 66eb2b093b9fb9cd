"""Whether a model that gives secrets away is found out."""

from trainer import canaries


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
