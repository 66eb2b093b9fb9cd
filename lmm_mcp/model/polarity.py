"""Whether two texts say yes and no to the same: negations with what they cover, and words that turn a statement round. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from lmm_mcp.model.specifics import Token
from lmm_mcp.store.terms import STOP_WORDS, stem

COVERED = 4
"""Words after a negation that it covers, at most."""
COVERED_cjk = 4
_NEGATORS = frozenset(
    """not no never none nothing neither nor nobody cannot without avoid unless lack lacks lacking unable refuse refuses
    refused forbid forbids forbidden except hardly stop stops stopped skip skips skipped prevent prevents prevented
    nicht kein keine keinen keiner keinem keines nie niemals ohne pas jamais sans ni nunca sin non mai senza""".split()
)
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
yes no|allow deny|allow forbid|allow block|accept reject|accept refuse|include exclude|always never|public private|local remote
push pull|fast slow|faster slower|encrypt decrypt|lock unlock|increase decrease|increase reduce|raise lower|raise reduce|start stop|open close
up down|upgrade downgrade|left right|input output|ascending descending|required optional|required unnecessary|keep drop|keep delete|keep remove
online offline|inside outside|same different|early late|earlier later|cold warm|cold hot|small large|small big|smaller larger|smaller bigger
high low|higher lower|short long|shorter longer|min max|minimum maximum|most least|more less|more fewer|above below|over under
older newer|oldest newest|old new|first last|import export|upload download|show hide|read write|client server|staging production|dev prod
work break|works broken|good bad|better worse|green red|hit miss|grow shrink|attach detach|mount unmount|sync async|merge split|inner outer
static dynamic|stable unstable|manual automatic|manually automatically|master slave|source target|parent child|begin end|forward backward
forwards backwards|internal external|explicit implicit|strict loose|present absent|available missing|approve reject|commit revert|apply revert
create delete|create remove|insert delete|installed removed|with without|safe dangerous|blocking nonblocking|eager lazy|serial parallel|singular plural
sequential parallel|won lost|expensive cheap|wider narrower|mutable immutable|legal illegal|major minor|upper lower|top bottom|odd even|full empty"""
_OPPOSITES: dict[str, set[str]] = {}
for _pair in _PAIRS.replace("\n", "|").split("|"):
    _one, _other = (stem(word) for word in _pair.split())
    _OPPOSITES.setdefault(_one, set()).add(_other)
    _OPPOSITES.setdefault(_other, set()).add(_one)
_TURNING = ("un", "in", "im", "ir", "dis", "non", "de", "mis", "anti")
_MIN_STEM_chars = 4


@dataclass(frozen=True, slots=True)
class Told:
    """A text as polarity sees it."""

    words: tuple[Token, ...]
    negated: tuple[bool, ...]
    """For each word, whether a negation covers it."""
    is_negator: tuple[bool, ...]

    @property
    def num_negations(self) -> int:
        """Negations that cover something."""
        return sum(self.is_negator)

    def signs(self, word: str) -> set[bool]:
        """Under which signs a stem occurs: True where it is negated."""
        return {is_not for token, is_not in zip(self.words, self.negated, strict=True) if token.stem == word}


def told(words: Sequence[Token]) -> Told:
    """Find what is negated."""
    negated, negators = [False] * len(words), [False] * len(words)
    for at, word in enumerate(words):
        reach = COVERED_cjk if word.kind == "cjk" else COVERED
        if not _negates(words, at):
            continue
        covers = 0
        for n in range(at + 1, len(words)):
            if words[n].clause != word.clause or covers == reach:
                break
            low = words[n].text.lower()
            if low in _ENDS_COVER and covers:
                break
            if _negates(words, n):
                continue
            if words[n].kind in ("cjk", "number", "name") or low not in STOP_WORDS:
                covers += 1
            negated[n] = not negated[n]
        negators[at] = covers > 0
    return Told(tuple(words), tuple(negated), tuple(negators))


def _negates(words: Sequence[Token], at: int) -> bool:
    word = words[at]
    if word.kind == "cjk":
        if word.text not in _NEGATORS_cjk:
            return False
        around = "".join(each.text for each in words[max(0, at - 1) : at + 3] if each.kind == "cjk")
        return not any(harmless in around for harmless in _NOT_REALLY_cjk)
    low = word.text.lower()
    if low == "not" and at + 1 < len(words) and words[at + 1].text.lower() in ("only", "just"):
        return False
    return low in _NEGATORS or low.endswith("n't") or low in ("cant", "dont", "wont", "doesnt", "isnt")


def contradiction(said: Told, known: Sequence[Told]) -> str:
    """What a sentence turns round of the lines it cites, '' where they agree."""
    stems = {token.stem for each in known for token in each.words}
    own = {token.stem for token in said.words}
    excused: set[str] = set()
    for token, is_not in zip(said.words, said.negated, strict=True):
        if token.stem in stems or token.is_value:
            continue
        for other in _opposites(token, stems - own):
            signs = set().union(*(each.signs(other) for each in known))
            if is_not in signs:
                return f"says {token.text!r} where its lines say {other!r}"
            excused.add(other)
    for token, is_not in zip(said.words, said.negated, strict=True):
        if token.stem not in stems or token.kind in ("number", "unit") or not _is_telling(token):
            continue
        signs = set().union(*(each.signs(token.stem) for each in known))
        if signs == {not is_not} and not excused:
            return f"{'denies' if is_not else 'affirms'} {token.text!r} where its lines do not"
    if said.num_negations and not excused and not any(each.num_negations for each in known):
        return "denies something where its lines deny nothing"
    return ""


def _is_telling(token: Token) -> bool:
    return token.kind in ("cjk", "name") or token.text.lower() not in STOP_WORDS


def _opposites(token: Token, stems: set[str]) -> list[str]:
    word = token.stem
    found = [other for other in sorted(_OPPOSITES.get(word, ())) if other in stems]
    for prefix in _TURNING:
        if word.startswith(prefix) and len(word) - len(prefix) >= _MIN_STEM_chars and word[len(prefix) :] in stems:
            found.append(word[len(prefix) :])
        if len(word) >= _MIN_STEM_chars and prefix + word in stems:
            found.append(prefix + word)
    return found


def is_turning(word: str) -> bool:
    """Whether a stem has an opposite.

    >>> is_turning(stem("enabled")), is_turning("cache")
    (True, False)
    """
    return word in _OPPOSITES


def opposites_of(word: str) -> set[str]:
    """The stems that turn this one round."""
    return _OPPOSITES.get(word, set())
