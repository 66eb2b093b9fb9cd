r"""A shell command line taken apart into the programs it runs: text in, one list of words for each program out.

Not a shell: nothing is expanded, and what cannot be understood is taken as it stands. But what is quoted, a comment or the
body of a here-document is no command, and what stands behind assignments, `sudo`, `uv run` or within `bash -c '...'` is one.
Linear, whatever a transcript holds.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

_TOKEN = re.compile(
    r"""
    (?P<blank>(?:[^\S\n]|\\\r?\n)+)
  | (?P<comment>\#[^\n]*)
  | (?P<heredoc>\d*<<-?(?!<))
  | (?P<redirect>\d*(?:<<<|>>|>\||&>>?|[<>]&?))
  | (?P<end>&&|\|\||[;&|()`\n])
  | (?P<word>(?:'[^']*(?:'|\Z)|"(?:[^"\\]|\\.)*(?:"|\Z)|\\.|[^\s;&|()`'"\\<>]|\\\Z)+)
    """,
    re.VERBOSE | re.DOTALL,
)
_PIECE = re.compile(
    r"""'([^']*)(?:'|\Z)|"((?:[^"\\]|\\.)*)(?:"|\Z)|\\([\s'"\\$;&|()`<>#*?])|([^'"\\]+|\\)""", re.DOTALL
)
_WHOLE_WORD = re.compile(r"""(?:'[^']*+'|"(?:[^"\\]|\\.)*+"|\\.|[^\s'"\\])++""", re.DOTALL)
_SUBSTITUTED = re.compile(r"\$\(|`")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")
_MAX_DEPTH = 4
"""How deep commands within commands are looked for."""
_MAX_WORDS = 64
"""Of one command: what runs, and what it is asked to do, stands in front."""

_KEYWORDS = frozenset("! { then do else elif if while until".split())
_WRAPPERS = frozenset(
    """env sudo doas time gtime command builtin exec nohup nice ionice stdbuf setsid timeout gtimeout xargs watch caffeinate
    uvx uv pipx poetry pdm hatch rye pixi conda mamba mise""".split()
)
"""Programs that run the program named behind them."""
_WRAPPERS_VERBS = frozenset("run tool exec x".split())
_SHELLS = frozenset("bash sh zsh dash ksh fish ash".split())
_OTHER_SHELLS = frozenset("powershell pwsh cmd".split())
_RUN_THIS = frozenset("-command -c /c".split())


def programs_in(command: str, depth: int = 0) -> Iterator[list[str]]:
    r"""Yield the words of each program that `command` runs, the program's own name first, without quotes.

    Behind a wrapper's option it cannot be told whether a word is that option's value or the program: both are yielded.

    >>> list(programs_in("cd shop && PORT=1 sudo make 'all of it' # not this"))
    [['cd', 'shop'], ['make', 'all of it']]
    >>> list(programs_in('bash -lc "ls; git log" > out'))
    [['ls'], ['git', 'log']]
    """
    if depth > _MAX_DEPTH:
        return
    for words in _simple_commands(command):
        for word in words:
            if word[0] not in "'\\" and ("$(" in word or "`" in word):
                for inner in _SUBSTITUTED.split(_unquoted(word))[1:]:
                    yield from programs_in(inner, depth + 1)
        yield from _programs([_unquoted(word) for word in words], depth)


def only_word(text: str) -> str | None:
    """Return the one word that `text` consists of, without its quotes; None where there are more, or a quote stays open.

    >>> only_word("'ls src'"), only_word("'ls' src"), only_word("'ls")
    ('ls src', None, None)
    """
    return _unquoted(text) if _WHOLE_WORD.fullmatch(text) else None


def name_of(program: str) -> str:
    r"""Return a program's bare name, however it was called.

    >>> [name_of(word) for word in ("/x/.venv/bin/lmm", "C:\\tools\\LMM.EXE", "lmm-mcp@latest")]
    ['lmm', 'lmm', 'lmm-mcp']
    """
    return re.split(r"[/\\]", program)[-1].lower().partition("@")[0].removesuffix(".exe")


def _simple_commands(command: str) -> Iterator[list[str]]:
    words: list[str] = []
    bodies: list[str] = []  # ends of the here-documents that begin behind this line
    waiting = ""  # what the next word is, if it is none of the command's
    at = 0
    while at < len(command):
        token = _TOKEN.match(command, at)
        assert token is not None  # the last alternative takes whatever the others leave
        at, kind = token.end(), token.lastgroup
        if kind == "word":
            if waiting == "heredoc":
                bodies.append(_unquoted(token[0]))
            elif not waiting:
                words.append(token[0])
            waiting = ""
        elif kind in ("heredoc", "redirect"):
            waiting = kind
        elif kind == "end":
            if words:
                yield words
            words, waiting = [], ""
            if token[0] == "\n":
                for end in bodies:
                    at = _behind(command, at, end)
                bodies = []
    if words:
        yield words


def _behind(command: str, at: int, end: str) -> int:
    """Where a here-document that begins at `at` is over."""
    found = re.compile(rf"^\t*{re.escape(end)}[ \t\r]*$", re.MULTILINE).search(command, at)
    return found.end() if found else len(command)


def _programs(words: list[str], depth: int) -> Iterator[list[str]]:
    words = words[: _past_assignments(words, 0) + _MAX_WORDS]
    starts, seen = [0], set()
    while starts:
        start = _past_assignments(words, starts.pop())
        if start in seen or start == len(words):
            continue
        seen.add(start)
        name = name_of(words[start])
        if name in _WRAPPERS:
            starts += _starts(words, start)
        else:
            yield from _within(name, words[start:], depth)


def _past_assignments(words: list[str], start: int) -> int:
    while start < len(words) and (words[start] in _KEYWORDS or _ASSIGNMENT.match(words[start])):
        start += 1
    return start


def _within(name: str, words: list[str], depth: int) -> Iterator[list[str]]:
    """The programs that a shell is told to run, else the program itself."""
    if name in _OTHER_SHELLS or name == "eval":
        after = next((at + 1 for at, word in enumerate(words) if word.lower() in _RUN_THIS), 1)
        yield from programs_in(" ".join(words[after:]), depth + 1)
        return
    if name in _SHELLS:
        for option, value in pairwise(words):
            if re.fullmatch(r"-[a-z]*c", option):
                yield from programs_in(value, depth + 1)
                return
    yield words


def _starts(words: list[str], wrapper: int) -> Iterator[int]:
    """Where behind the wrapper at `wrapper` its program may begin: at each option's last word, or at the first of no option."""
    after_option = False
    for at, word in enumerate(words[wrapper + 1 :], start=wrapper + 1):
        if word.startswith("-"):
            after_option = True
            continue
        if word in _WRAPPERS_VERBS or _ASSIGNMENT.match(word) or word[0].isdigit():  # `timeout 5s`, `env A=b`
            after_option = False
            continue
        yield at
        if not after_option:
            return
        after_option = False


def _unquoted(word: str) -> str:
    return "".join(
        piece[1] or re.sub(r'\\(["\\$`])', r"\1", piece[2] or "") or piece[3] or piece[4] or ""
        for piece in _PIECE.finditer(word)
    )
