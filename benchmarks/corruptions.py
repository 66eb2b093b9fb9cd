"""Whether the validator drops sentences that were corrupted, and lets true ones stand.

    python benchmarks/corruptions.py [--seed N] [--families all|seen|unseen] [--failures]

Evidence and wordings of it were written by hand (`corruptions_families.txt`, invented projects); numbers, versions, paths, names
and commands are filled in at random. Each wording is a clean sentence; it is corrupted by another number, version, path, name,
command, flag, host or date, by a value of a line that it does not cite, by a wrong citation, by an inserted negation, and by
wordings of the same evidence turned round by hand. Every third family was never looked at while the validator was written:
`--families unseen` shows those alone.
"""

import argparse
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmm_mcp.domain.writing import MAX_OFFERED_chars, Offered, Sentence
from lmm_mcp.model.validating import objection

FAMILIES = Path(__file__).with_name("corruptions_families.txt")
NUM_OFFERED = 6


@dataclass(frozen=True)
class Family:
    role: str
    evidence: str
    clean: tuple[str, ...]
    turned: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    kind: str
    """`clean`, or how it was corrupted."""
    family: int
    sentence: Sentence
    offered: tuple[Offered, ...]

    def reason(self) -> str:
        return objection(self.sentence, self.offered)


def families() -> list[Family]:
    found = []
    for block in re.split(r"\n\s*\n", FAMILIES.read_text(encoding="utf-8")):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            role, _, evidence = lines[0].partition(": ")
            of = {sign: tuple(line[2:] for line in lines[1:] if line.startswith(f"{sign} ")) for sign in "+-"}
            found.append(Family(role, evidence, of["+"], of["-"]))
    return found


def _number(by: random.Random) -> str:
    return str(by.randint(13, 59))


def _port(by: random.Random) -> str:
    return str(by.randint(1100, 64000))


def _version(by: random.Random) -> str:
    return ".".join(str(by.randint(1, 19)) for _ in range(by.choice((2, 3))))


def _date(by: random.Random) -> str:
    return f"2026-{by.randint(1, 12):02}-{by.randint(1, 28):02}"


_WORDS = "cart invoice tenant ledger payment session upload render report search widget driver parcel lease".split()
_VERBS = "load parse fetch build flush merge score route drain rank".split()


def _name(by: random.Random) -> str:
    one, other, verb = by.choice(_WORDS), by.choice(_WORDS), by.choice(_VERBS)
    return by.choice(
        (
            f"{verb}_{one}_{other}",
            f"{verb}{one.title()}{other.title()}",
            f"{one.title()}{other.title()}{verb.title()}er",
            f"{one.upper()}_{verb.upper()}",
            f"{one}-{verb}-{by.randint(2, 99)}",
        )
    )


def _path(by: random.Random) -> str:
    folders = [by.choice(("src", "lib", "app", "tests", "deploy", "packages")), by.choice(_WORDS)][: by.choice((1, 2))]
    return "/".join(
        [*folders, f"{by.choice(_VERBS)}_{by.choice(_WORDS)}.{by.choice(('py', 'ts', 'rs', 'sql', 'toml'))}"]
    )


_COMMANDS = """npm run build|npm run deploy|pnpm install|uv lock|uv sync|cargo test|cargo build|make ship|make seed|git rebase
git push|docker compose up|docker compose down|pytest tests|kubectl apply|kubectl delete|terraform plan|terraform apply
alembic upgrade head|poetry update|go generate|bundle exec rake""".replace("\n", "|").split("|")


def _command(by: random.Random) -> str:
    return by.choice(_COMMANDS)


def _flag(by: random.Random) -> str:
    return by.choice(
        "--no-cache --dry-run --strict --all-features --frozen --watch --only-changed --max-warnings".split()
    )


def _host(by: random.Random) -> str:
    return f"{by.choice(_WORDS)}-{by.randint(1, 9)}.{by.choice(('internal', 'svc', 'corp'))}.example"


SLOTS: Mapping[str, Callable[[random.Random], str]] = {
    "port": _port,
    "n": _number,
    "ver": _version,
    "date": _date,
    "id": _name,
    "path": _path,
    "cmd": _command,
    "flag": _flag,
    "host": _host,
}
KINDS = {"port": "number", "n": "number", "ver": "version", "id": "name", "cmd": "command"}


def _another(value: str, kind: str, by: random.Random) -> str:
    """A value that is easily taken for this one."""
    while True:
        made = _mutated(value, kind, by)
        if made != value:
            return made


def _mutated(value: str, kind: str, by: random.Random) -> str:
    ways = [SLOTS[kind]]
    if kind in ("port", "n", "ver", "date"):
        digits = [at for at, char in enumerate(value) if char.isdigit()]
        at = by.choice(digits)
        ways.append(lambda _: value[:at] + str(by.randint(1, 9)) + value[at + 1 :])
        ways.append(lambda _: str(int(value) * 10) if value.isdigit() else value + "1")
    if kind in ("id", "host"):
        at = by.randrange(1, len(value) - 1)
        ways.append(lambda _: value[:at] + value[at + 1 :])
        ways.append(lambda _: value.swapcase() if by.random() < 0.3 else f"{value}_v2")
        ways.append(lambda _: re.sub("[a-z]{4,}", by.choice(_WORDS), value, count=1))
    if kind == "path":
        ways.append(lambda _: re.sub(r"\.\w+$", by.choice((".js", ".go", ".yaml")), value))
        ways.append(lambda _: "internal/" + value)
        ways.append(lambda _: re.sub(r"^\w+", by.choice(("core", "srv", "cmd")), value))
    if kind == "cmd":
        words = value.split()
        ways.append(lambda _: " ".join([by.choice("yarn just nox gh tox".split()), *words[1:]]))
        ways.append(lambda _: " ".join([*words[:-1], by.choice("clean check publish prune".split())]))
    return by.choice(ways)(by)


def cases(seed: int, which: str = "all", rounds: int = 1) -> Iterator[Case]:
    """Clean and corrupted sentences, each with the lines that it may cite."""
    by = random.Random(seed)
    all_families = families()
    for _ in range(rounds):
        for number, family in enumerate(all_families):
            is_unseen = number % 3 == 2
            if which == "all" or (which == "unseen") == is_unseen:
                yield from _cases_of(number, family, all_families, by)


def _filled(text: str, by: random.Random) -> dict[str, str]:
    values: dict[str, str] = {}
    for slot in dict.fromkeys(re.findall(r"\{(\w+)\}", text)):
        while slot not in values or list(values.values()).count(values[slot]) > 1:
            values[slot] = SLOTS[slot.rstrip("2")](by)
    return values


def _fill(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda slot: values[slot[1]], text)


def _cases_of(number: int, family: Family, others: Sequence[Family], by: random.Random) -> Iterator[Case]:
    values = _filled(family.evidence, by)
    place = by.randint(1, NUM_OFFERED)
    lines, elsewhere = [], defaultdict(list)
    for at in range(1, NUM_OFFERED + 1):
        one = family if at == place else by.choice([each for each in others if each is not family])
        theirs = values if at == place else _filled(one.evidence, by)
        if at != place:
            for slot, value in theirs.items():
                elsewhere[slot.rstrip("2")].append(value)
        text = _fill(one.evidence, theirs)[:MAX_OFFERED_chars]
        lines.append(Offered(at, f"{at:016x}", at, one.role, text, _date(by)))
    offered = tuple(lines)

    def case(kind: str, text: str, *cites: int) -> Case:
        return Case(kind, number, Sentence(text, cites or (place,)), offered)

    yield case("clean", lines[place - 1].text)
    for wording in family.clean:
        said = _fill(wording, values)
        yield case("clean", said)
        for slot in dict.fromkeys(re.findall(r"\{(\w+)\}", wording)):
            kind = slot.rstrip("2")
            wrong = {**values, slot: _another(values[slot], kind, by)}
            if wrong[slot] not in values.values():
                yield case(KINDS.get(kind, kind), _fill(wording, wrong))
            borrowed = [each for each in elsewhere[kind] if each not in values.values()]
            if borrowed:
                yield case("borrowed", _fill(wording, {**values, slot: by.choice(borrowed)}))
        yield case("citation", said, by.choice([n for n in range(1, NUM_OFFERED + 1) if n != place]))
        yield case("citation", said, NUM_OFFERED + by.randint(1, 5))
        if (negated := _negated(said)) != said:
            yield case("negation", negated)
    for wording in family.turned:
        yield case("turned", _fill(wording, values))


def _negated(said: str) -> str:
    """An inserted or a dropped negation."""
    for old, new in (
        (r"\b(do|does|must|is|are|was|were|can|need) not\b", r"\1"),
        (r"\bnever\b ?", ""),
        (r"\b(is|are|was|were|must|can)\b", r"\1 not"),
        (r"\b(uses?|needs?|keeps?|runs?|costs?|wants?|returned)\b", r"never \1"),
    ):
        if re.search(old, said):
            return re.sub(old, new, said, count=1)
    return said


@dataclass(frozen=True)
class Figures:
    """Shares of sentences that were dropped."""

    by_kind: Mapping[str, tuple[int, int]]
    """Dropped, of how many."""
    wrong: tuple[tuple[Case, str], ...]
    """Those that should have stood, with the reason, or should have gone."""

    def share(self, is_clean: bool) -> float:
        counted = [found for kind, found in self.by_kind.items() if (kind == "clean") == is_clean]
        return sum(gone for gone, _ in counted) / sum(num for _, num in counted)

    def num(self, is_clean: bool) -> int:
        return sum(num for kind, (_, num) in self.by_kind.items() if (kind == "clean") == is_clean)


def measured(found: Iterator[Case]) -> Figures:
    gone: Counter[str] = Counter()
    num: Counter[str] = Counter()
    wrong = []
    for case in found:
        reason = case.reason()
        num[case.kind] += 1
        gone[case.kind] += bool(reason)
        if bool(reason) == (case.kind == "clean"):
            wrong.append((case, reason))
    return Figures({kind: (gone[kind], num[kind]) for kind in num}, tuple(wrong))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--families", choices=("all", "seen", "unseen"), default="all")
    parser.add_argument("--rounds", type=int, default=3, help="how often each family is filled anew")
    parser.add_argument("--failures", action="store_true", help="also print what was judged wrongly")
    arguments = parser.parse_args()
    figures = measured(cases(arguments.seed, arguments.families, arguments.rounds))
    for kind, (gone, num) in sorted(figures.by_kind.items()):
        print(f"{kind:10} {gone:5} of {num:5} dropped  {gone / num:7.1%}")
    print(f"corrupted sentences dropped: {figures.share(False):.1%} of {figures.num(False)}")
    print(f"clean sentences dropped:     {figures.share(True):.1%} of {figures.num(True)}")
    if arguments.failures:
        for case, reason in figures.wrong:
            line = next((each.text for each in case.offered if each.number in case.sentence.cites), "")
            print(
                f"\n{case.kind} (family {case.family}): {case.sentence.text}\n  cites: {line}\n  {reason or 'stands'}"
            )


if __name__ == "__main__":
    main()
