"""A project's own files in, facts about its code base out: manifests, the head of its README, public symbols. Off by default.

No agent's reader: what it reads is no session, is not archived, and is only looked at where the user named the folder in the setting
`lessons.repositories`. Files are chosen by an allow-list of names and endings, so `.env` and its like are never opened; links
are not followed; sizes, files and folders are bounded; secrets are cut before anything is looked for.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest import manifests
from lmm_mcp.domain.chunk import Span
from lmm_mcp.domain.fact import Evidence, Fact
from lmm_mcp.domain.project import looks_like_home, normalise_path
from lmm_mcp.domain.relations import RELATIONS, said
from lmm_mcp.exclusion import Exclusion
from lmm_mcp.paths import expanded
from lmm_mcp.redaction import redact
from lmm_mcp.store.facts import REPOSITORY, Derived

REPOSITORY_VERSION = 1
MAX_FILES = 300
MAX_FILE_bytes = 200_000
MAX_ALL_bytes = 6_000_000
MAX_FOLDERS = 400
MAX_DEPTH = 6
MAX_SYMBOLS = 200
"""Of a whole repository; and of one file:"""
MAX_SYMBOLS_per_file = 8
EVERYTHING = "*"
"""In the setting: all projects that are known and whose folder exists."""
_README = re.compile(r"readme(?:\.(?:md|rst|txt))?\Z", re.IGNORECASE)
_SYMBOLS: Mapping[str, re.Pattern[str]] = {
    ".py": re.compile(r"^(?:class|(?:async )?def) (?P<value>[A-Za-z]\w*)", re.MULTILINE),
    ".ts": re.compile(
        r"^export (?:default )?(?:abstract )?(?:async )?(?:function|class|const|interface|type|enum) (?P<value>[A-Za-z]\w*)",
        re.MULTILINE,
    ),
    ".go": re.compile(r"^(?:func (?:\([^)\n]*\) )?|type )(?P<value>[A-Z]\w*)", re.MULTILINE),
    ".rs": re.compile(r"^pub (?:async )?(?:fn|struct|enum|trait) (?P<value>[A-Za-z]\w*)", re.MULTILINE),
}
_ENDINGS = {**_SYMBOLS, **dict.fromkeys((".tsx", ".js", ".jsx", ".mjs"), _SYMBOLS[".ts"])}
_OTHERS = frozenset(
    """node_modules vendor third_party dist build out target venv env site-packages __pycache__ coverage tests test
    __tests__ spec specs fixtures testdata examples example migrations generated secrets credentials""".split()
)
"""Folders whose files are not the project's own, or say nothing of what it is."""
_MARKUP = re.compile(r"^\s*(?:#|!?\[|<|=|-{3}|\*{3}|```|\||>|:\w|\.\. )")


@dataclass(frozen=True, slots=True)
class Source:
    """A repository as it lies on this machine."""

    project: str
    root: Path
    files: tuple[Path, ...]
    """To be read, relative to the root."""
    state: str
    """Changes with any of these files."""


def chosen(roots: Mapping[str, str], named: Sequence[str], rules: Exclusion) -> dict[str, Path]:
    """Projects whose files may be read, with their folder. `roots`: known folder to project. `named`: the user's setting."""
    wanted = [normalise_path(str(expanded(name))) for name in named if name != EVERYTHING]
    found: dict[str, Path] = {}
    for folder in sorted(roots, key=len):
        project = roots[folder]
        is_named = EVERYTHING in named or any(folder == each or folder.startswith(each + "/") for each in wanted)
        if not is_named or project in found or looks_like_home(folder):
            continue
        if rules.excludes_place(REPOSITORY, folder) or rules.excludes_remote(project):
            continue
        if Path(folder).is_absolute() and Path(folder).is_dir():
            found[project] = Path(folder)
    return found


def sources(roots: Mapping[str, str], named: Sequence[str], rules: Exclusion) -> tuple[Source, ...]:
    """The repositories that may be read, as they are now. Opens no file."""
    return tuple(_source(project, root) for project, root in sorted(chosen(roots, named, rules).items()))


def derive(source: Source) -> Derived:
    """Read a repository. A file that cannot be read, or is another by now, is left out."""
    observations: dict[str, Fact] = {}
    num_symbols = 0
    for path in source.files:
        text = _text(source.root / path)
        if text is None:
            continue
        for fact, is_symbol in _facts(source, path, text):
            if is_symbol and num_symbols >= MAX_SYMBOLS:
                break
            num_symbols += is_symbol
            observations.setdefault(fact.id, fact)
    return Derived(
        REPOSITORY, source.project, source.project, source.project, source.state, tuple(observations.values())
    )


def _facts(source: Source, path: Path, text: str) -> Iterator[tuple[Fact, bool]]:
    name = path.as_posix()
    if path.name.lower() in manifests.NAMES:
        for each in manifests.laid_down(path.name, text):
            yield _fact(source, name, text, each.relation, each.subject, each.value, each.start, each.end), False
    elif _README.match(path.name):
        if (about := _first_paragraph(text)) is not None:
            yield _fact(source, name, text, "description", "", about[0], about[1], about[1] + len(about[0])), False
    elif (pattern := _ENDINGS.get(path.suffix)) is not None:
        symbols = [each for each in pattern.finditer(text) if not each["value"].startswith("_")]
        for symbol in symbols[:MAX_SYMBOLS_per_file]:
            span = symbol.start(), symbol.end()
            yield _fact(source, name, text, "defines", name, symbol["value"], *span), True


def _fact(source: Source, name: str, text: str, relation: str, subject: str, value: str, start: int, end: int) -> Fact:
    about = RELATIONS[relation]
    evidence = Evidence(
        REPOSITORY, source.project, source.project, Span(name, start, end), "file", _changed_ms(source.root / name)
    )
    assert value in text[start:end]
    # Whatever it is called, what a repository says of itself is structure: how it is worked with, sessions tell.
    return Fact(
        source.project,
        "codebase structure",
        relation,
        subject,
        value,
        said(relation, value, subject),
        (evidence,),
        evidence.at_ms,
        volatility=about.volatility,
    )


def _first_paragraph(text: str) -> tuple[str, int] | None:
    """The first line of prose in the head of a README, and where it begins."""
    at = 0
    for line in text[:4_000].split("\n"):
        if len(line.strip()) >= 30 and not _MARKUP.match(line):
            value = line.strip()[:300].rstrip()
            return value, at + line.index(value)
        at += len(line) + 1
    return None


def _source(project: str, root: Path) -> Source:
    entries = sorted(_walk(root), key=lambda each: (len(each[0].parts), each[0].as_posix()))
    files: list[Path] = []
    size = 0
    state = hashlib.blake2b(f"{REPOSITORY_VERSION} {root}".encode("utf-8", "surrogatepass"), digest_size=16)
    for path, num_bytes, mtime_ns in entries:
        if len(files) >= MAX_FILES or size + num_bytes > MAX_ALL_bytes:
            break
        files.append(path)
        size += num_bytes
        state.update(f"{path.as_posix()}\x1f{num_bytes}\x1f{mtime_ns}\x1e".encode("utf-8", "surrogatepass"))
    return Source(project, root, tuple(files), state.hexdigest())


def _walk(root: Path) -> Iterator[tuple[Path, int, int]]:
    """(path below the root, bytes, time of change) of files that may be read, folder by folder, no link followed."""
    folders = [Path()]
    num_folders = 0
    while folders and num_folders < MAX_FOLDERS:
        folder = folders.pop(0)
        num_folders += 1
        try:
            with os.scandir(root / folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            path = folder / entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    is_own = not entry.name.startswith(".") and entry.name.lower() not in _OTHERS
                    if is_own and len(path.parts) < MAX_DEPTH:
                        folders.append(path)
                elif _may_be_read(path) and entry.is_file(follow_symlinks=False):
                    about = entry.stat(follow_symlinks=False)
                    if about.st_size <= MAX_FILE_bytes:
                        yield path, about.st_size, about.st_mtime_ns
            except OSError:
                continue


def _may_be_read(path: Path) -> bool:
    is_top = len(path.parts) == 1
    if is_top and (path.name.lower() in manifests.NAMES or _README.match(path.name)):
        return True
    return path.suffix in _ENDINGS and not path.name.startswith(".") and ".min." not in path.name


def _text(path: Path) -> str | None:
    """What a file says, without secrets; None for what cannot be read, is a link by now, or is no text."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            data = file.read(MAX_FILE_bytes)
    except OSError:
        return None
    return None if b"\x00" in data else redact(data.decode("utf-8", "replace").replace("\r\n", "\n"))


def _changed_ms(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return 0
