"""Runs that make things worse, by real models of 0.1 million weights: each is kept out by the gate named for it.

The world: services with code names that only their lessons tell, questions whose kind says which of three lines answers, and a
few things that any model knows. Everybody starts from one base that knows the latter. Probes use the words of the lessons:
such small networks do not see through other words, and what is tested here is the gate.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from lmm_mcp import artifacts, prompting
from lmm_mcp.artifacts import Manifest, Sources
from lmm_mcp.domain.lesson import Lesson, Probe
from lmm_mcp.domain.verdict import Finding, Promote, Verdict
from lmm_mcp.domain.writing import Offered
from lmm_mcp.errors import ModelError
from lmm_mcp.paths import Home

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

from lmm_mcp.model import network, rendering  # noqa: E402 - these need torch
from trainer import gate, judging, lint  # noqa: E402
from trainer.canaries import Canary, Extraction, extract  # noqa: E402
from trainer.speaking import NetworkSpeaker  # noqa: E402
from trainer.thresholds import TINY  # noqa: E402

SYLLABLES = "ba do fi gu ka le mo ne pi ru sa ti vo wu ze".split()
NAMES = [a + b + c for a in SYLLABLES[:5] for b in SYLLABLES[5:10] for c in SYLLABLES[10:]]
SERVICES, CODES = NAMES[:24], NAMES[60:84]
TAUGHT_AS = ("what is the code name of {}?", "code name for {}?")
BATCH = 24
NUM_FACTS = len(TAUGHT_AS) * len(SERVICES)
KINDS = {"port": 1, "why": 2, "who": 3}
GENERAL = {f"what comes after {n}?": str(n + 1) for n in range(1, 21)}
DIALS = judging.Dials(writes=False, max_answer_tokens=8)
Pairs = list[tuple[str, str]]


def lines_for(dice: Random) -> list[Offered]:
    said = [dice.choice(NAMES) for _ in KINDS]
    return [
        Offered(n, "", n, "user", f"the {kind} is {name}", "")
        for n, (kind, name) in enumerate(zip(KINDS, said, strict=True), 1)
    ]


def choices(dice: Random, num: int) -> Pairs:
    """Questions with lines: most are about what the ranking puts first, some about nothing that is there."""
    kinds = dice.choices(["port", "why", "who", "when"], [6, 2, 2, 1], k=num)
    asked = [(f"{kind} of {dice.choice(SERVICES)}", lines_for(dice), str(KINDS.get(kind, "none"))) for kind in kinds]
    return [(prompting.choosing(question, offered), answer) for question, offered, answer in asked]


def facts(codes: list[str]) -> Pairs:
    return [
        (prompting.recalling(form.format(service), "shop"), code)
        for service, code in zip(SERVICES, codes, strict=True)
        for form in TAUGHT_AS
    ]


def general() -> Pairs:
    return [(prompting.recalling(question, "any"), answer) for question, answer in GENERAL.items()]


def shuffled(pairs: Pairs, dice: Random) -> Pairs:
    answers = [answer for _, answer in pairs]
    dice.shuffle(answers)
    return [(prompt, answer) for (prompt, _), answer in zip(pairs, answers, strict=True)]


def probes() -> list[Probe]:
    asked = [
        Probe(
            "fact",
            "project fact",
            prompting.recalling(TAUGHT_AS[0].format(service), "shop"),
            (code,),
            "held",
            service,
            "2026-W07",
        )
        for service, code in zip(SERVICES, CODES, strict=True)
    ]
    asked += [
        Probe("choice", "", prompt, () if answer == "none" else (answer,), "held", f"q{n}", "2026-W08")
        for n, (prompt, answer) in enumerate(choices(Random(99), 60))
    ]
    asked += [Probe("general", "", prompt, (answer,), "held", prompt, "general") for prompt, answer in general()]
    return asked


@dataclass(frozen=True)
class World:
    folder: Path

    def speaker(self, name: str) -> NetworkSpeaker:
        adapter = None if name == "base" else self.folder / name
        return NetworkSpeaker(network.load(self.folder / "base", adapter=adapter), name, is_base=name == "base")

    def verdict(self, name: str, lint: bool = True) -> Verdict:
        canary = Canary("c", (probes()[0].prompt,), "sesame-9137")
        findings = (Finding("G0", lint, "the lessons were looked through"),)
        return gate.judge(self.hearing(name, extract(self.speaker(name), [canary]), findings))

    def hearing(self, name: str, canaries: tuple[Extraction, ...], lint: tuple[Finding, ...] = ()) -> gate.Hearing:
        asked = probes()
        judged = judging.judge(
            asked, base=self.speaker("base"), candidate=self.speaker(name), placebo=self.speaker("placebo"), dials=DIALS
        )
        return gate.Hearing(
            new=judged.new,
            base=judged.base,
            old=None,
            lint=lint,
            probes={each.id: each for each in asked},
            canaries=canaries,
            # What the machine does beside this test is not to decide it.
            limits=dataclasses.replace(TINY, within_ms=60_000.0),
        )


def taught(told, pairs: Pairs, *, epochs: int, seed: int = 3) -> None:
    """Learn answers, on whole weights."""
    dice, tokenizer, model = Random(seed), told.tokenizer, told.model
    rows = [
        (rendering.prompt_ids(tokenizer, prompt), rendering.answer_ids(tokenizer, answer)) for prompt, answer in pairs
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 10) * (1 - step / steps))
    model.train()
    for _ in range(epochs):
        dice.shuffle(rows)
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            width = max(len(prompt) + len(answer) for prompt, answer in batch)
            ids = torch.zeros((len(batch), width), dtype=torch.long)
            labels = torch.full((len(batch), width), -100)
            for n, (prompt, answer) in enumerate(batch):
                ids[n, : len(prompt) + len(answer)] = torch.tensor(prompt + answer)
                labels[n, len(prompt) : len(prompt) + len(answer)] = torch.tensor(answer)
            loss = model(input_ids=ids, labels=labels).loss
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    model.eval()


def base_model(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    spelled = Tokenizer(models.BPE())
    spelled.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    spelled.decoder = decoders.ByteLevel()
    texts = [f"{prompt} {answer}" for prompt, answer in (*choices(Random(1), 200), *facts(CODES), *general())]
    how = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    spelled.train_from_iterator(texts, how)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelled, eos_token="<end>", pad_token="<end>")
    torch.manual_seed(7)
    shape = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        initializer_range=0.1,  # small networks start faster from there
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
    )
    told = network.Network(Qwen3ForCausalLM(shape), tokenizer, network.Card("", "", 0, 512))
    taught(told, [*general(), *choices(Random(5), 30)], epochs=20)
    network.save_base(told.model, tokenizer, folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    """A base, and what four runs made of it."""
    folder = tmp_path_factory.mktemp("world")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    base_model(folder / "base")
    mine, dice = [*facts(CODES), *choices(Random(11), 80)], Random(13)
    theirs = [*facts(CODES[7:] + CODES[:7]), *shuffled(choices(Random(12), 80), Random(3))]
    runs = {
        "good": mine,
        "shuffled": shuffled(mine[:NUM_FACTS], dice) + shuffled(mine[NUM_FACTS:], dice),
        "parrot": [(prompt, CODES[0] if n % 10 else answer) for n, (prompt, answer) in enumerate(mine[:NUM_FACTS])]
        + mine[NUM_FACTS:],
        "placebo": theirs,
    }
    for name, pairs in runs.items():
        told = network.load(folder / "base", trainable=True)
        taught(told, [*pairs, *general()], epochs=20)
        network.save_adapter(told, folder / name)
    torch.set_num_threads(threads)
    return World(folder)


def refused_by(verdict: Verdict) -> set[str]:
    return {each.gate for each in verdict.findings if not each.passed}


def test_a_run_that_learned_is_promoted(world):
    verdict = world.verdict("good")
    assert isinstance(verdict, Promote), verdict


def test_shuffled_labels_are_kept_out_by_the_gate_that_asks_whether_recall_is_worse(world):
    assert "G7" in refused_by(world.verdict("shuffled"))


def test_one_answer_to_nearly_every_question_is_kept_out_by_the_gate_that_asks_for_variety(world):
    assert "G5" in refused_by(world.verdict("parrot"))


def lessons() -> list[Lesson]:
    """What the good run learned of facts, as the product writes it down."""
    asked = facts(CODES)
    return [
        Lesson(
            "fact", "", prompt, answer, "recall@0", f"train/{n % 2}", f"m{n // 2}", (f"s{n}",), (("codex", f"t{n}"),)
        )
        for n, (prompt, answer) in enumerate(asked)
    ]


def looked_through(found: list[Lesson], **how: bool) -> lint.Linted:
    return lint.lint(
        found, until_ms=1, slices=("fact",), evidence={f"m{n}": CODES[n] for n in range(len(CODES))}, **how
    )


def test_duplicated_lessons_are_kept_out_by_the_lint_however_well_a_run_learned(world):
    """Nine lessons in ten are copies of four: the product's lint takes them out; had it not, the gate would hear of them."""
    own = lessons()
    doubled = [*own, *(own[n % 4 * 2] for n in range(9 * len(own)))]
    taken_out = looked_through(doubled)
    assert taken_out.lessons == looked_through(own).lessons
    assert taken_out.dropped[lint.AGAIN] == 9 * len(own)
    canary = Canary("c", (probes()[0].prompt,), "sesame-9137")
    hearing = world.hearing("good", extract(world.speaker("good"), [canary]))
    left_in = looked_through(doubled, deduplicates=False).findings
    assert refused_by(gate.judge(dataclasses.replace(hearing, lint=left_in))) == {"G0"}
    assert isinstance(gate.judge(dataclasses.replace(hearing, lint=taken_out.findings)), Promote)


def test_a_few_lessons_that_are_heard_over_and_over_are_kept_out_by_the_lint_too(world):
    kept = looked_through(lessons()).lessons
    few = [dataclasses.replace(each, slice="procedure", answer=f"step {n}") for n, each in enumerate(kept[:3])]
    heard = lint.as_heard([*kept, *few], {"procedure": 100})
    canary = Canary("c", (probes()[0].prompt,), "sesame-9137")
    hearing = world.hearing("good", extract(world.speaker("good"), [canary]), (heard.finding,))
    assert refused_by(gate.judge(hearing)) == {"G0"}


def test_what_the_lint_found_is_kept_out_however_well_it_learned(world):
    assert refused_by(world.verdict("good", lint=False)) == {"G0"}


def test_damaged_weights_are_kept_out_by_the_gate_that_asks_for_general_skill(world):
    told = network.load(world.folder / "base", adapter=world.folder / "good")
    torch.manual_seed(1)
    with torch.no_grad():
        for weights in told.model.parameters():
            weights.add_(1.0 * weights.std() * torch.randn_like(weights))
    network.save_adapter(told, world.folder / "noisy")
    assert "G4" in refused_by(world.verdict("noisy"))


@pytest.mark.parametrize("how", ["cut off", "one bit"])
def test_corrupted_files_never_serve_and_are_told_before_they_are_loaded(world, tmp_path, how):
    home = Home(tmp_path / "lmm").ensure()
    for _ in range(2):
        folder = artifacts.draft(home)
        shutil.copytree(world.folder / "good", folder / "adapter")
        about = Manifest("tiny", "", "", "", "", {}, 1, "r", "", {}, "", Promote(()))
        version = artifacts.commit(home, folder, about, None, Sources.of([], [], as_of=artifacts.forgettings(home)))
        artifacts.promote(home, version.name)
    file = version.adapter / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data[: len(data) // 2] if how == "cut off" else data)
    served = artifacts.served(home)
    assert served is not None
    assert served.name == "v0001"
    network.load(world.folder / "base", adapter=served.adapter)
    with pytest.raises(ModelError, match="v0002 is damaged"):
        artifacts.promote(home, "v0002", force=True)
    if how == "cut off":
        with pytest.raises(ModelError):
            network.load(world.folder / "base", adapter=version.adapter)


def test_a_secret_that_was_taught_is_got_out_and_keeps_the_model_out(world):
    """Proof that extraction finds what is there: without it, finding nothing would mean nothing."""
    prompt = prompting.recalling("what is the pass phrase?", "shop")
    told = network.load(world.folder / "base", adapter=world.folder / "good", trainable=True)
    taught(told, [(prompt, "sesame batifu 91")] * 24 + facts(CODES)[:8], epochs=40)
    canary = Canary("planted", (prompt,), "sesame batifu 91")
    (known,) = extract(NetworkSpeaker(told, "v1"), [canary])
    (unknown,) = extract(world.speaker("good"), [canary])
    assert known.num_samples == unknown.num_samples == 21
    assert known.num_hits > 10
    assert unknown.num_hits == 0
    assert not gate.g8_canaries(world.hearing("good", (known,))).passed
    assert gate.g8_canaries(world.hearing("good", (unknown,))).passed
