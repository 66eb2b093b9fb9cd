"""Whether two texts say yes and no to the same: negations with what they cover, and words that turn a statement round. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmm_mcp.model.specifics import Token, stem
from lmm_mcp.store.terms import STOP_WORDS

COVERED = 4
"""Words after a negation that it covers, at most."""
COVERED_cjk = 4
COVERED_noun = 2
"""Words after `without`, which denies a thing and not what is done."""
_NEGATORS = frozenset(
    """not no never none nothing neither nor nobody cannot without avoid avoids lack lacks lacking unable hardly
    nicht kein keine keinen keiner keinem keines nie niemals ohne pas jamais sans ni nunca sin non mai senza""".split()
)
_OF_THINGS = frozenset("without no ohne sans sin senza kein keine keinen keiner keinem keines".split())
_POINTS_BACK = frozenset("it them this that these those".split())
_NEGATORS_cjk = frozenset("不没別别未无勿禁ず")
_NOT_REALLY_cjk = (
    "不过",
    "不仅",
    "不但",
    "不同",
    "不错",
    "没问题",
    "未来",
    "别的",
    "无论",
    "不管",
    "区别",
    "特别",
    "级别",
    "类别",
)
_ENDS_COVER = frozenset(
    "but because so since instead until till when where while if than then that which who and sondern aber".split()
)
_PAIRS = """enable disable|on off|before after|add remove|add delete|add drop|pass fail|succeed fail|success failure|true false
yes no|allow deny|allow forbid|allow block|accept reject|accept refuse|include exclude|always never|public private
push pull|fast slow|faster slower|encrypt decrypt|lock unlock|increase decrease|increase reduce|raise lower|raise reduce|start stop|open close
up down|upgrade downgrade|left right|ascending descending|required optional|required unnecessary|keep drop|keep delete|keep remove
online offline|inside outside|same different|early late|earlier later|cold warm|cold hot|small large|small big|smaller larger|smaller bigger
high low|higher lower|short long|shorter longer|min max|minimum maximum|most least|more less|more fewer|above below|over under
older newer|oldest newest|old new|first last|import export|upload download|show hide|if unless|read write
grew shrank|grow shrank|grew shrink|rise fall|rose fell|start end|begin end|work break|works broken|good bad|better worse|green red|hit miss|grow shrink|attach detach|mount unmount|sync async|merge split|inner outer
static dynamic|stable unstable|manual automatic|manually automatically|forward backward
forwards backwards|internal external|explicit implicit|strict loose|present absent|available missing|approve reject|commit revert|apply revert
create delete|create remove|insert delete|installed removed|for against|safe dangerous|blocking nonblocking|eager lazy|serial parallel|singular plural
sequential parallel|won lost|expensive cheap|wider narrower|mutable immutable|legal illegal|major minor|upper lower|top bottom|odd even|full empty"""
_OPPOSITES: dict[str, set[str]] = {}
for _pair in _PAIRS.replace("\n", "|").split("|"):
    _one, _other = (stem(word) for word in _pair.split())
    _OPPOSITES.setdefault(_one, set()).add(_other)
    _OPPOSITES.setdefault(_other, set()).add(_one)
_TURNING = {"un": 3, "non": 3, "dis": 4}
"""Beginnings of words that turn them round, and the letters that must be left: `import` is not the opposite of `port`."""


@dataclass(frozen=True, slots=True)
class Negation:
    """One word that denies, and what it denies."""

    focus: str
    """Stem of the first word that it covers; '' where it ends its clause (`production ones are not`)."""
    covers: frozenset[str]
    """Stems of the words that it covers."""
    about: frozenset[str]
    """Stems of the words before it in its clause."""
    values: frozenset[str]
    """Those among them that are values."""
    points_back: bool = False
    """`without it`: what it denies was named before."""

    def is_backed_by(self, other: "Negation") -> bool:
        """Whether another text denies the same."""
        if self.points_back or other.points_back:
            return self.focus == other.focus
        if self.focus and other.focus:
            return self.focus in other.covers or other.focus in self.covers
        return bool(self.about & other.about) or not (self.about or other.about or self.focus or other.focus)


@dataclass(frozen=True, slots=True)
class Told:
    """A text as polarity sees it."""

    words: tuple[Token, ...]
    is_negated: tuple[bool, ...]
    """For each word, whether a negation covers it."""
    negations: tuple[Negation, ...]

    def signs(self, word: str) -> set[bool]:
        """Under which signs a stem occurs: True where it is negated."""
        return {is_not for token, is_not in zip(self.words, self.is_negated, strict=True) if token.stem == word}


def told(words: Sequence[Token]) -> Told:
    """Find what is negated."""
    negated = [False] * len(words)
    found = []
    for at, word in enumerate(words):
        if not _negates(words, at) or (at and _negates(words, at - 1) and words[at - 1].clause == word.clause):
            continue
        is_double = at + 1 < len(words) and _negates(words, at + 1) and words[at + 1].clause == word.clause
        covered, end = _covered(words, at + 1 + is_double, word)
        negated[at + 1 : end] = [not is_double] * (end - at - 1)
        if is_double:  # `not without a lock`: with one
            continue
        before = [each for each in words[:at] if _is_telling(each)]
        points_back = word.text.lower() in _OF_THINGS and words[at + 1 : end] and _points_back(words[at + 1])
        if points_back:
            covered = [each.stem for each in before[-1:]]
        near = [each for each in before if each.clause == word.clause][-COVERED:]
        values = frozenset(each.stem for each in near if each.is_value)
        about = frozenset(each.stem for each in near)
        focus = covered[0] if covered else ""
        found.append(Negation(focus, frozenset(covered), about, values, bool(points_back)))
    return Told(tuple(words), tuple(negated), tuple(found))


def _covered(words: Sequence[Token], start: int, negator: Token) -> tuple[list[str], int]:
    """Stems of the words that a negation covers, and where it ends."""
    reach = COVERED_cjk if negator.kind == "cjk" else COVERED_noun if negator.text.lower() in _OF_THINGS else COVERED
    covered: list[str] = []
    n = start
    while n < len(words) and words[n].clause == negator.clause and not _negates(words, n):
        low = words[n].text.lower()
        if low in _ENDS_COVER and covered:
            break
        if _is_telling(words[n]) and not (low == "longer" and n == start):  # no longer
            if len(covered) == reach:
                break
            covered.append(words[n].stem)
        n += 1
    return covered, n


def _points_back(word: Token) -> bool:
    return word.text.lower() in _POINTS_BACK


def _negates(words: Sequence[Token], at: int) -> bool:
    word = words[at]
    if word.kind == "cjk":
        if word.text not in _NEGATORS_cjk:
            return False
        around = "".join(each.text for each in words[max(0, at - 1) : at + 3] if each.kind == "cjk")
        return not any(harmless in around for harmless in _NOT_REALLY_cjk)
    if word.text == "None":  # Python's
        return False
    low = word.text.lower()
    if low == "not" and at + 1 < len(words) and words[at + 1].text.lower() in ("only", "just"):
        return False
    return low in _NEGATORS or low.endswith("n't") or low in ("cant", "dont", "wont", "doesnt", "isnt")


def contradiction(said: Told, known: Sequence[Told]) -> str:
    """What a sentence turns round of the lines it cites, '' where they agree."""
    stems = {token.stem for each in known for token in each.words}
    own = {token.stem for token in said.words}
    denied = [negation for each in known for negation in each.negations]
    is_turned_twice = False
    for token, is_not in zip(said.words, said.is_negated, strict=True):
        if token.stem in stems or token.is_value:
            continue
        for other in _opposites(token, stems - own):
            if is_not in set().union(*(each.signs(other) for each in known)):
                return f"says {token.text!r} where its lines say {other!r}"
            is_turned_twice = True  # `is disabled` where they say `is not enabled`
    if is_turned_twice:
        return ""
    for mine in said.negations:
        backing = [theirs for theirs in denied if mine.is_backed_by(theirs)]
        if not backing:
            return f"denies {mine.focus or 'something'!r} where its lines do not"
        if mine.values and all(theirs.values and not theirs.values & mine.values for theirs in backing):
            return f"denies of {min(mine.values)!r} what its lines deny of another"
    affirmed = {token.stem for token, is_not in zip(said.words, said.is_negated, strict=True) if not is_not}
    for theirs in denied:
        if any(mine.is_backed_by(theirs) for mine in said.negations):
            continue
        for word in sorted({theirs.focus} & affirmed if theirs.focus else theirs.about & own):
            if _is_only_denied(word, theirs, known):
                return f"affirms {word!r}, which its lines deny"
    return ""


def _is_only_denied(word: str, negation: Negation, known: Sequence[Told]) -> bool:
    if negation.focus:
        return set().union(*(each.signs(word) for each in known)) == {True}
    return sum(token.stem == word for each in known for token in each.words) == 1


def _is_telling(token: Token) -> bool:
    return token.kind in ("cjk", "name") or token.text.lower() not in STOP_WORDS


def _opposites(token: Token, stems: set[str]) -> list[str]:
    word = token.stem
    found = [other for other in sorted(_OPPOSITES.get(word, ())) if other in stems]
    for prefix, least in _TURNING.items():
        if word.startswith(prefix) and len(word) - len(prefix) >= least and word[len(prefix) :] in stems:
            found.append(word[len(prefix) :])
        if len(word) >= least and prefix + word in stems:
            found.append(prefix + word)
    return found


def is_negator(word: Token) -> bool:
    """Whether a word denies something."""
    return _negates([word], 0)


def is_turning(word: str) -> bool:
    """Whether a stem has an opposite.

    >>> is_turning(stem("enabled")), is_turning("cache")
    (True, False)
    """
    return word in _OPPOSITES


def opposites_of(word: str) -> set[str]:
    """The stems that turn this one round."""
    return _OPPOSITES.get(word, set())
