"""Text that the project writes itself, from which a small base learns its skills: to answer from what it was told, to name the
lines that answer, and to write a sentence that quotes them. Invented projects and random values, in the served prompt formats.

What is asked here is asked in families of its own (`FAMILIES`): lessons and probes have others, so that no probe is won by
having seen its wording here. A seed and a position make an item, so that a run can go on where it stopped.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lmm_mcp import prompting
from lmm_mcp.domain.lesson import Lesson
from lmm_mcp.domain.writing import MAX_OFFERED, MAX_OFFERED_chars, Offered

ABSENT = "Nothing here answers this."
"""What a brief says that has no answer; as the prompt asks for it."""
WORDS = """
alpha amber anchor apple arrow atlas badge banner basin beacon birch border bridge bronze bucket cactus camera candle canyon
carbon castle cedar circle clover cobalt comet copper coral cotton crane crystal dawn delta desert dragon eagle echo ember falcon
feather fern field flint forest garden glacier granite harbor hazel helmet heron hollow ivory jasper jungle kettle lantern lemon
linen lotus magnet maple marble meadow mirror moss needle north oasis ocean olive orbit otter paper pearl pebble pepper pine
planet plum prairie quartz raven reef ribbon river rocket saddle salmon shadow signal silver spruce stone summit sunset tango
temple thunder timber topaz tulip tundra valley velvet violet walnut willow winter yarrow zephyr
""".split()
SERVICES = """
api auth billing cache catalog checkout cron dashboard docs gateway importer indexer invoices jobs ledger login mailer media metrics
notifier orders parser payments portal proxy queue reports router scheduler search sessions shipping storage sync tracker uploads
users webhooks worker
""".split()
PEOPLE = "Ada Bruno Chen Dalia Emil Farah Goran Hana Igor Jun Kira Lena Milo Nadia Omar Petra Quinn Rosa Sven Tara Uma Viktor Wei Yara Zoe".split()
TOOLS = """
pytest tox nox make just ninja cmake cargo npm pnpm yarn bun uv poetry gradle maven bazel ruff black eslint prettier mypy jest vitest
docker podman helm terraform ansible redis postgres sqlite mysql kafka rabbitmq nginx traefik
""".split()
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"


def _new_word(rng: random.Random) -> str:
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(2, 3)))


def _name(rng: random.Random) -> str:
    return rng.choice(WORDS) if rng.random() < 0.7 else _new_word(rng)


def project_name(rng: random.Random) -> str:
    """`amber-gateway`, `kodu`, `tulip-reports`."""
    return f"{_name(rng)}-{rng.choice(SERVICES)}" if rng.random() < 0.7 else _name(rng)


def _command(rng: random.Random) -> str:
    tail = rng.choice(
        ("", " -q", " --fast", f" {rng.choice(SERVICES)}", f" -n {rng.randint(2, 16)}", f" --only {_name(rng)}")
    )
    return f"{rng.choice(TOOLS)} {rng.choice(('run', 'test', 'check', 'build', 'all', 'verify', _name(rng)))}{tail}"


def _path(rng: random.Random) -> str:
    return f"{rng.choice(SERVICES)}/{_name(rng)}{rng.choice(('.py', '.ts', '.go', '.rs', '.toml', '.yaml', '.md', '.sql'))}"


def _port(rng: random.Random) -> str:
    return str(rng.randint(1024, 9999))


def _version(rng: random.Random) -> str:
    return f"{rng.randint(0, 20)}.{rng.randint(0, 30)}" + (f".{rng.randint(0, 9)}" if rng.random() < 0.4 else "")


def _flag(rng: random.Random) -> str:
    return f"{_name(rng)}_{rng.choice(('limit', 'mode', 'timeout', 'retries', 'size', 'key'))}={rng.randint(1, 999)}"


@dataclass(frozen=True, slots=True)
class Relation:
    """Something a project has one of."""

    names: tuple[str, ...]
    """Ways to call it."""
    value: Callable[[random.Random], str]


RELATIONS = (
    Relation(("test command", "command for the tests", "way to run the tests"), _command),
    Relation(("build command", "command that builds it", "build step"), _command),
    Relation(("lint command", "linter", "style check"), _command),
    Relation(("start command", "command that starts it", "way to run it locally"), _command),
    Relation(("package manager", "tool for dependencies", "installer"), lambda rng: rng.choice(TOOLS)),
    Relation(("port", "port it listens on", "listening port"), _port),
    Relation(("database", "data store", "place of its rows"), lambda rng: f"{rng.choice(TOOLS)} {_version(rng)}"),
    Relation(("runtime version", "language version", "pinned version"), _version),
    Relation(("owner", "maintainer", "person to ask"), lambda rng: rng.choice(PEOPLE)),
    Relation(("deploy target", "place it is deployed to", "host in production"), lambda rng: f"{_name(rng)}-{rng.randint(1, 99)}"),
    Relation(("config file", "file with the settings", "settings file"), _path),
    Relation(("entry point", "main module", "file where it starts"), _path),
    Relation(("default branch", "branch we release from", "main line"), lambda rng: f"{rng.choice(('main', 'trunk', 'release'))}-{_name(rng)}"),
    Relation(("fix for the flaky test", "cure for the timeout", "workaround"), _flag),
    Relation(("code name", "nickname", "internal name"), lambda rng: f"{_name(rng)} {_name(rng)}"),
    Relation(("key setting", "value we tuned", "limit we chose"), _flag),
)  # fmt: skip
STATEMENTS = (
    "the {rel} of {project} is {value}",
    "{project} has {value} as its {rel}",
    "for {project} we chose {value} as the {rel}",
    "{value} is now the {rel} of {project}",
    "in {project} the {rel} must be {value}",
    "we agreed on {value}: that is the {rel} for {project}",
    "note for {project}: {rel} = {value}",
    "I set the {rel} of {project} to {value}",
)
QUESTIONS = (
    "what is the {rel} of {project}",
    "which {rel} does {project} have",
    "what did we choose as {rel} for {project}",
    "remind me of the {rel} in {project}",
    "{project}: {rel}?",
    "tell me the {rel} that {project} uses",
    "I need the {rel} of {project}",
    "do you remember the {rel} for {project}",
    "{rel} of {project}?",
    "what should the {rel} be in {project}",
)
QUESTIONS_HERE = (
    "what is the {rel} here",
    "which {rel} do we have",
    "remind me of the {rel}",
    "{rel}?",
    "tell me our {rel}",
    "what should the {rel} be",
)
"""As `QUESTIONS`, where the project is told beside the question."""
SEEKING = (
    "where did we see {words}",
    "what do we know about {words}",
    "{words}",
    "why {words}",
    "how did {words} go",
    "anything on {words}?",
    "what happened with {words}",
    "{words}?",
)
FAMILIES = frozenset(
    f"base:{kind}:{number}"
    for kind, templates in (("ask", QUESTIONS), ("ask here", QUESTIONS_HERE), ("seek", SEEKING), ("tell", STATEMENTS))
    for number in range(len(templates))
)
"""Families of phrasings that a base has seen. Neither lessons nor probes use them."""
NOISE = (
    "{tool} finished in {n} s",
    "reading {path}",
    "the {service} of {project} looks fine",
    "{n} passed, {m} failed in {path}",
    "I moved {word} out of {path}",
    "please look at {path} again",
    "error: {word} not found in {path} line {n}",
    "cd {service} && {command}",
    "then {person} reviewed the {service}",
    "{word} and {word2} are unrelated to this",
    "commit {hex}: rename {word} to {word2}",
    "warning: {word} is deprecated since {version}",
)
ROLES = ("user", "agent", "command", "output", "error", "edit", "path", "summary", "note")
KINDS = {"echo": 0.05, "told": 0.25, "known": 0.16, "choice": 0.26, "seek": 0.16, "brief": 0.12}
"""Kinds of items and their shares."""
KINDS_FIRST = {"echo": 0.45, "told": 0.25, "known": 0.10, "choice": 0.10, "seek": 0.05, "brief": 0.05}
"""In the first third: to copy comes before to choose, and is learned soonest where there is much to copy."""
NUM_KNOWN = 240
"""Facts of a fixed invented world that are asked again and again: they teach that many wordings ask for one thing."""


@dataclass(frozen=True, slots=True)
class Told:
    """One invented fact."""

    project: str
    relation: Relation
    value: str

    def stated(self, rng: random.Random) -> str:
        """As somebody said it."""
        return rng.choice(STATEMENTS).format(
            rel=rng.choice(self.relation.names), project=self.project, value=self.value
        )

    def asked(self, rng: random.Random, *, here: bool = False) -> str:
        """As somebody asks for it; `here` where the project stands beside the question."""
        templates = QUESTIONS_HERE if here and rng.random() < 0.5 else QUESTIONS
        return rng.choice(templates).format(rel=rng.choice(self.relation.names), project=self.project)


def items(seed: int, num: int, *, lines: Sequence[str] = (), start: int = 0) -> Iterator[Lesson]:
    """Items `start` to `num` of the row that a seed makes. `lines`, where given, are shown among the invented ones."""
    known = _world(seed)
    for number in range(start, num):
        rng = _random(f"{seed}:{number}")
        done = number / max(1, num)
        kinds = KINDS_FIRST if done < 1 / 3 else KINDS
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        # Few lines first: to match one of three is learned sooner, and then helps with twelve.
        most = 2 + round((MAX_OFFERED - 2) * max(0.0, min(1.0, 1.5 * done - 0.4)))
        yield _MAKERS[kind](rng, known, lines, most)


def fact(rng: random.Random) -> Told:
    """An invented fact with a random value."""
    relation = rng.choice(RELATIONS)
    return Told(project_name(rng), relation, relation.value(rng))


def choice_item(rng: random.Random, most: int) -> tuple[str, tuple[Offered, ...], tuple[int, ...]]:
    """A question, lines, and the numbers that answer it, newest first; none where no line does."""
    return _asked_lines(rng, most)


def _world(seed: int) -> tuple[Told, ...]:
    rng = _random(f"world:{seed}")
    return tuple({(each.project, each.relation.names): each for each in (fact(rng) for _ in range(NUM_KNOWN))}.values())


def _random(seed: str) -> random.Random:
    return random.Random(seed)  # noqa: S311 - nothing here is a secret


def _noise(rng: random.Random) -> str:
    return rng.choice(NOISE).format(
        tool=rng.choice(TOOLS), path=_path(rng), service=rng.choice(SERVICES), project=project_name(rng), word=_name(rng),
        word2=_name(rng), person=rng.choice(PEOPLE), command=_command(rng), version=_version(rng), n=rng.randint(1, 400),
        m=rng.randint(0, 9), hex=f"{rng.getrandbits(28):07x}",
    )  # fmt: skip


def _day(rng: random.Random) -> str:
    return f"20{rng.randint(24, 27)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def _offer(rng: random.Random, texts: Sequence[tuple[str, bool]]) -> tuple[Offered, ...]:
    return tuple(
        Offered(number, "", 0, rng.choice(ROLES), text[:MAX_OFFERED_chars], _day(rng), old)
        for number, (text, old) in enumerate(texts, start=1)
    )


def _asked_lines(rng: random.Random, most: int) -> tuple[str, tuple[Offered, ...], tuple[int, ...]]:
    """A fact among others: of the same project, of the same relation, superseded, and noise."""
    gold = fact(rng)
    others: list[tuple[str, bool]] = []
    for _ in range(rng.randint(2, max(2, most - 1))):
        relation = rng.choice([each for each in RELATIONS if each is not gold.relation])
        near = rng.random()
        if near < 0.3:
            others.append((Told(gold.project, relation, relation.value(rng)).stated(rng), False))
        elif near < 0.5:
            others.append((Told(project_name(rng), gold.relation, gold.relation.value(rng)).stated(rng), False))
        elif near < 0.75:
            others.append((fact(rng).stated(rng), False))
        else:
            others.append((_noise(rng), False))
    if rng.random() < 0.15:
        others[0] = (Told(gold.project, gold.relation, gold.relation.value(rng)).stated(rng), True)
    answering: list[tuple[str, bool]] = []
    if rng.random() >= 0.15:
        answering = [(gold.stated(rng), False) for _ in range(2 if rng.random() < 0.2 else 1)]
    shown = [*others[: most - len(answering)], *answering]
    rng.shuffle(shown)
    offered = _offer(rng, shown)
    return gold.asked(rng), offered, tuple(each.number for each in offered if (each.text, False) in answering)


def _choice(rng: random.Random, _known: Sequence[Told], _lines: Sequence[str], most: int) -> Lesson:
    question, offered, gold = _asked_lines(rng, most)
    return _lesson("choice", prompting.choosing(question, offered), " ".join(map(str, gold)) or "none", "choose")


def _seek(rng: random.Random, _known: Sequence[Told], lines: Sequence[str], most: int) -> Lesson:
    """A question made of words of one line: which one is it."""
    wanted = rng.randint(2, max(2, most))
    pool = [
        rng.choice(lines)
        if lines and rng.random() < 0.6
        else _noise(rng)
        if rng.random() < 0.6
        else fact(rng).stated(rng)
        for _ in range(wanted)
    ]
    at = rng.randrange(len(pool))
    words = sorted(set(re.findall(r"[\w./-]{4,}", pool[at][:MAX_OFFERED_chars])))
    chosen = rng.sample(words, min(len(words), rng.randint(2, 4))) or [pool[at][:20]]
    absent = rng.random() < 0.15
    shown = [text for number, text in enumerate(pool) if not (absent and number == at)] or [_noise(rng)]
    offered = _offer(rng, [(text, False) for text in shown])
    gold = [each.number for each in offered if not absent and all(word in each.text for word in chosen)]
    question = rng.choice(SEEKING).format(words=" ".join(chosen))
    return _lesson("choice", prompting.choosing(question, offered), " ".join(map(str, gold[:3])) or "none", "choose")


def _brief(rng: random.Random, _known: Sequence[Told], _lines: Sequence[str], most: int) -> Lesson:
    question, offered, gold = _asked_lines(rng, max(3, most // 2))
    texts = {each.number: each.text for each in offered}
    said = " ".join(f"{texts[number][:1].upper()}{texts[number][1:]} [{number}]." for number in gold[:2]) or ABSENT
    return _lesson("brief", prompting.writing(question, offered), said, "brief")


def _told(rng: random.Random, _known: Sequence[Told], _lines: Sequence[str], most: int) -> Lesson:
    """Statements, then a question about one of them."""
    facts = [fact(rng) for _ in range(rng.randint(1, max(2, most // 2)))]
    asked = rng.choice(facts)
    told = "\n".join(each.stated(rng) for each in facts)
    return _lesson(
        "fact", f"{told}\n{prompting.recalling(asked.asked(rng, here=True), asked.project)}", asked.value, "fact"
    )


def _echo(rng: random.Random, _known: Sequence[Told], lines: Sequence[str], most: int) -> Lesson:
    """Lines, and the same lines again in another order."""
    told = [
        rng.choice(lines)[:MAX_OFFERED_chars]
        if lines and rng.random() < 0.3
        else _noise(rng)
        if rng.random() < 0.3
        else fact(rng).stated(rng)
        for _ in range(max(2, min(4, most)))
    ]
    shown = "\n".join(told)
    rng.shuffle(told)
    return _lesson("chunk", f"{shown}\nAgain:", "\n".join(told), "fact")


def _known(rng: random.Random, known: Sequence[Told], _lines: Sequence[str], _most: int) -> Lesson:
    asked = rng.choice(known)
    if rng.random() < 0.25:
        return _lesson("general", "Note:", asked.stated(rng), "fact")
    return _lesson("fact", prompting.recalling(asked.asked(rng, here=True), asked.project), asked.value, "fact")


def _lesson(slice_name: str, prompt: str, answer: str, template: str) -> Lesson:
    return Lesson(slice_name, "", prompt, answer, prompting.load(template).mark, "base", "", (), ())


_MAKERS: dict[str, Callable[[random.Random, Sequence[Told], Sequence[str], int], Lesson]] = {
    "echo": _echo,
    "told": _told,
    "known": _known,
    "choice": _choice,
    "seek": _seek,
    "brief": _brief,
}
