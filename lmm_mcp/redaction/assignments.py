"""Secrets that are known by the name they are given to: `.env` lines, JSON and YAML fields, code, command-line options.

In: a text. Out: spans of the values. The name decides how much the value must prove: after `DB_PASSWORD=` anything but a
placeholder is cut, after `"token":` only what looks generated, after `password:` in a sentence only what mixes letters
with digits. So `password: str`, `token = get_token()` and `max_tokens: 4096` stay.
"""

import re
from typing import Literal, get_args

from lmm_mcp.redaction.tokens import Span
from lmm_mcp.redaction.values import is_placeholder, is_random, is_reference, is_uuid, mixes

_STEMS = ("pass", "pwd", "secret", "token", "key")
"""Searched in the lower-cased text; everything else happens only around a hit."""

_Kind = Literal["password", "secret", "token", "key"]
RULE_IDS = frozenset(f"assigned-{kind}" for kind in get_args(_Kind))

_PASSWORDS = frozenset({"password", "passwd", "passphrase", "pwd", "passwort", "dbpass", "userpass", "sshpass", "pass"})
_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(_PASSWORDS, "password"),
    **dict.fromkeys(("secret", "secrets", "clientsecret", "appsecret"), "secret"),
    **dict.fromkeys(("token", "apitoken", "authtoken", "accesstoken", "refreshtoken", "bearertoken"), "token"),
    **dict.fromkeys(("apikey", "accesskey", "secretkey", "privatekey", "accountkey", "authkey", "masterkey"), "key"),
}
_KEYS_OF_WORDS = """
    access account admin api app application auth client consumer deploy encrypt encryption function functions hmac host
    integration license live master private prod rest sas secret server service shared sign signing signature
    subscription webhook write
"""
_KEYS_OF = frozenset(_KEYS_OF_WORDS.split())
"""`key` alone names anything; after one of these it opens something. In upper case (`FOO_KEY=`) any word will do."""
_ACCOUNT_WORDS = """
    account admin app auth cert database db docker email ftp http imap key keystore ldap login mail mongo mysql pg postgres
    proxy rabbitmq redis registry root service smtp ssh sudo user vpn wifi
"""
_ACCOUNTS = frozenset(_ACCOUNT_WORDS.split())
"""`pass` is a password after one of these only: tests pass, too."""
_HARMLESS_WORDS = """
    bos cache cancel cancellation completion continuation count csrf cursor dedup eos foreign group id idempotency index
    input kind lookup map mask max min next num object output pad page partition per prev primary prompt pub public
    publishable row sep shard sort start stop sync tag total type unk unsubscribe xsrf
"""
_HARMLESS = frozenset(_HARMLESS_WORDS.split())
"""One such word in the name and it holds no secret: `next_page_token`, `primary_key`."""
_TRAILING_WORDS = (
    "b64 base base64 dev development live local new old plain prod production raw staging test text val value"
)
_TRAILING = frozenset(_TRAILING_WORDS.split())
"""Words behind the one that counts: `SECRET_KEY_BASE`, `api_key_prod`."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_NAME_BEFORE = re.compile(r"[\w-]{0,48}\Z", re.ASCII)
_AFTER = re.compile(
    r"""
    (?P<rest>[\w-]{0,32}+)
    (?:(?P<close>\\*["'`])?\]?
       (?P<blanks>[ \t]{0,12})
       (?:(?P<annotated>:\ ?&?[A-Za-z][\w.\[\]<>|]{0,30}(?:\ \|\ None)?\ ?=(?!=))|(?P<sign>:=|=>|=(?![=~>])|:(?!:)|：|>(?![=>])))
       (?P<more>[ \t]{0,12})
     | (?P<option>[ ](?:is[ ](?:set[ ]to[ ])?)?))
    (?:[furbFURB]?(?P<quote>\\*["'`])(?P<quoted>(?:(?!(?P=quote))(?:\\.|[^\n\\])){4,256}+) | (?P<bare>[^\s"'`\\<]{4,256}))
    """,
    re.VERBOSE | re.ASCII,
)
_BARE_END = ",;.)]}"
_NEXT_FIELD = re.compile(r"(?<=.)[&;]")
"""In addresses and connection strings the next field follows without a blank."""
_LOOKED_AT_chars = 256
"""Of a value: enough to judge it by (and the bound in the pattern above); what follows goes the same way."""
_BARE_MORE = re.compile(r"[^\s\"'`\\,;<>)}\]&]*")
_CODE = re.compile(r"[(){}\[\]<>|]|->|::|\w\.[A-Za-z_]+\Z|,\S")
_AWS_SECRET = re.compile(r"[A-Za-z0-9/+]{40}={0,2}")
_BEFORE_BLANK = re.compile(r"\blogin\s+\S{1,64}\s+\Z|\bENV\s\Z")
"""`.netrc` and Dockerfiles put a blank between name and value."""


def find(text: str, folded: str) -> list[Span]:
    """Find the values given to names of secrets in `text`; `folded` is the same in lower case, position by position."""
    spans = []
    for stem in _STEMS:
        at = folded.find(stem)
        while at >= 0:
            end = at + len(stem)
            if span := _value_at(text, at, end):
                spans.append(span)
                end = span[1]
            at = folded.find(stem, end)
    return spans


def _value_at(text: str, start: int, end: int) -> Span | None:
    """The value given to the name around text[start:end], if there is one and it is a secret."""
    after = _AFTER.match(text, end)
    if after is None:
        return None
    before = _NAME_BEFORE.search(text, max(0, start - 48), start)
    begin = before.start() if before else start
    if text[begin - 1 : begin] == "\\" and text[begin : begin + 1] in ("n", "r", "t"):
        begin += 1  # the n of a literal \n, in JSON within JSON
    name = text[begin:start] + text[start:end] + after["rest"]
    upper = name.isupper()
    kind = _kind_of(name, upper)
    if kind is None:
        return None
    quoted = after["quoted"]
    group = "bare" if quoted is None else "quoted"
    value, (first, last) = after[group], after.span(group)
    if after["option"] is not None:
        named = after["option"] != " " or name.startswith("--") or _BEFORE_BLANK.search(text, max(0, begin - 80), begin)
        if not named or value.startswith(("-", "=")):
            return None
    if after["sign"] == ">" and text[begin - 1 : begin] not in ("<", ":"):
        return None
    if quoted is None:
        if after["close"] and (after["sign"] or "") in (":", "=>") and not value[0].isalnum():
            return None
        if not upper:
            value = _NEXT_FIELD.split(value, maxsplit=1)[0]
        value = value.rstrip(_BARE_END)
        last = first + len(value)
    elif last < len(text) and not text.startswith(after["quote"], last) and len(quoted) < _LOOKED_AT_chars:
        return None  # the quote is another one's end, or an apostrophe
    tight = upper and not after["blanks"] and not after["more"] and after["sign"] == "="
    if not _is_secret(value, kind, name.lower(), quoted=quoted is not None, dotenv=tight):
        return None
    if last - first >= _LOOKED_AT_chars - len(_BARE_END):
        last = _rest_of(text, last, after["quote"])
    return first, last, f"assigned-{kind}"


def _rest_of(text: str, last: int, quote: str | None) -> int:
    """Where a value ends that is longer than what was looked at."""
    if quote is None:
        more = _BARE_MORE.match(text, last)
        return more.end() if more else last
    line_end, close = text.find("\n", last), text.find(quote, last)
    return min((end for end in (line_end, close) if end >= 0), default=len(text))


def _kind_of(name: str, upper: bool) -> _Kind | None:
    """What a thing of this name opens.

    >>> [_kind_of(n, n.isupper()) for n in ("dbPassword", "API_KEY_PROD", "next_page_token", "key", "max_tokens")]
    ['password', 'key', None, None, None]
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    while len(words) > 1 and (words[-1] in _TRAILING or words[-1].isdigit()):
        words.pop()
    if not words or not _HARMLESS.isdisjoint(words):
        return None
    last, qualifiers = words[-1], words[:-1]
    if last == "pass" and _ACCOUNTS.isdisjoint(qualifiers):
        return None
    if last == "key":
        return "key" if (upper and qualifiers) or not _KEYS_OF.isdisjoint(qualifiers) else None
    return _KINDS.get(last)


def _is_secret(value: str, kind: _Kind, name: str, *, quoted: bool, dotenv: bool) -> bool:
    """Whether `value` is worth hiding, given what its lower-cased name promises."""
    if len(value) < 4 or "REDACTED" in value:
        return False
    if kind in ("secret", "key") and _AWS_SECRET.fullmatch(value) and mixes(value):
        return True  # before the placeholders: the best known one ends in EXAMPLEKEY
    if is_placeholder(value) or is_reference(value):
        return False
    if not quoted and _CODE.search(value):
        return dotenv and kind == "password" and mixes(value) and not value.endswith((")", "]", "}", ">"))
    if " " in value:
        return quoted and (dotenv or "phrase" in name) and mixes(value)
    if dotenv and kind != "key":
        return len(value) >= 6 or mixes(value)
    if kind == "password":
        return len(value) >= 6 and (mixes(value) or (quoted and len(value) >= 20 and value.isalpha()))
    if is_uuid(value):
        return dotenv or kind == "key" or "auth" in name or "access" in name
    return is_random(value, min_chars=8 if kind == "secret" and quoted else 12 if dotenv else 16)
