"""Which project a working directory belongs to: what the agent recorded, else what lies on disk, else the name alone.

    recorded remote > remote in .git > worktree pattern > nearest known root above > the folder itself; then aliases

Most sessions name folders of this machine, some of another one: a folder is read only where it exists. Git is never run
(it would obey the repository's own configuration); its files are plain enough to be read.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lmm_mcp.domain.project import (
    NO_PROJECT,
    Project,
    looks_like_home,
    normalise_path,
    normalise_remote,
    same_folder_key,
    worktree_root,
)
from lmm_mcp.errors import BadInput

_MAX_CONFIG_bytes = 1024 * 1024
_MAX_PATH_chars = 4096
"""No folder's path is longer. The folders above one are looked at one by one, which takes the square of its length."""


def resolve(
    cwd: str, *, remote: str = "", aliases: Mapping[str, str], roots: Mapping[str, str], read_git: bool = True
) -> Project:
    """Find the project of a working directory.

    `remote`: as the agent recorded it, '' where it did not. `aliases`: project key to the key it was merged into.
    `roots`: known root folder (normalised) to project key, see `learn`. `read_git`: whether the disk may be looked at.

    >>> resolve("/work/shop/web", aliases={}, roots={"/work/shop": "github.com/ann/shop"})
    Project(key='github.com/ann/shop', how='root')
    >>> resolve("", aliases={}, roots={})
    Project(key='', how='cwd')
    """
    found = _resolve(_folder(cwd), normalise_remote(remote), roots, read_git)
    return Project(follow(found.key, aliases), found.how)


def follow(key: str, aliases: Mapping[str, str]) -> str:
    """Follow a key through the projects it was merged into. In a circle, which `merge` refuses, every key stays itself.

    >>> follow("a", {"a": "b", "b": "c"}), follow("a", {"a": "b", "b": "a"})
    ('c', 'a')
    """
    at, passed = key, {key}
    while (after := aliases.get(at)) is not None and after != at:
        if after in passed:
            return key
        passed.add(after)
        at = after
    return at


def merge(key: str, into: str, aliases: Mapping[str, str]) -> dict[str, str]:
    """Return the aliases after merging project `key` into another. Raises BadInput where that would close a circle.

    >>> merge("/work/shop", "github.com/ann/shop", {})
    {'/work/shop': 'github.com/ann/shop'}
    """
    if not key or not into:
        raise BadInput("merging needs two project keys; `lmm status` lists them.")
    if follow(into, aliases) == key or into == key:
        raise BadInput(f"{into} already leads to {key}: merging them the other way round would close a circle.")
    return {**aliases, key: into}


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a resolution taught, to be kept in the ledger."""

    roots: Mapping[str, str]
    """Root folder to project key."""
    aliases: Mapping[str, str]
    """Folder keys given out earlier to the key that they turned out to belong to."""


def learn(cwd: str, project: Project, *, roots: Mapping[str, str]) -> Learnt:
    """Note what `project`, found for `cwd`, tells about other directories.

    Later sessions in that folder, in its subfolders and in its worktrees may have no remote any more, and earlier ones
    may have been filed under the folder's name. Both become one project by this, in whatever order they are read.

    >>> learn("/work/shop", Project("github.com/ann/shop", "remote"), roots={"/work/shop": "/work/shop"})
    Learnt(roots={'/work/shop': 'github.com/ann/shop'}, aliases={'/work/shop': 'github.com/ann/shop'})
    """
    folder = _folder(cwd)
    if not folder or looks_like_home(folder) or project.how == "root":
        return Learnt({}, {})
    main = worktree_root(folder)
    told = dict.fromkeys((folder,) if main is None else (folder, main), project.key)
    if _is_folder(project.key):
        return Learnt({at: key for at, key in told.items() if _known(at, roots) is None}, {})
    new_roots = {at: key for at, key in told.items() if _is_folder(_known(at, roots) or at)}
    tops = tuple(same_folder_key(at) for at in told)
    names = dict.fromkeys((*told, *(key for key in roots.values() if _is_folder(key))))
    below = (name for name in names if any(_is_within(same_folder_key(name), top) for top in tops))
    # A repository of its own below keeps its name: only folder names that nothing else claims are drawn in.
    aliases = {name: project.key for name in below if _is_folder(_known(name, roots) or "")}
    return Learnt(new_roots, aliases)


def _folder(cwd: str) -> str:
    return normalise_path(cwd) if len(cwd) <= _MAX_PATH_chars else ""


def _resolve(folder: str, remote: str, roots: Mapping[str, str], read_git: bool) -> Project:
    if remote:
        return Project(remote, "remote")
    if not folder:
        return Project(NO_PROJECT, "cwd")
    if read_git and (key := _key_on_disk(folder, roots)):
        return Project(key, "git")
    if main := worktree_root(folder):
        on_disk = _key_on_disk(main, roots) if read_git else None
        return Project(on_disk or _nearest_root(main, roots) or main, "worktree")
    if key := _nearest_root(folder, roots):
        return Project(key, "root")
    return Project(folder, "cwd")


def _nearest_root(folder: str, roots: Mapping[str, str]) -> str | None:
    """Find the root that `folder` lies in: the nearest that has a remote, else the topmost of the folders known.

    A folder without a remote is a root only because work was done there; if work was done above it in a repository too,
    it is a part of that one, whichever of the two was seen first.
    """
    topmost = None
    for at in _upwards(folder):
        # Somebody once started an agent in their home folder; that does not make one project of everything below.
        if at != folder and looks_like_home(at):
            break
        if (key := _known(at, roots)) is not None:
            if not _is_folder(key):
                return key
            topmost = key
    return topmost


def _upwards(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        above = folder.rpartition("/")[0]
        if above.endswith(":") or (not above and folder != "/"):
            above += "/"
        if above == folder:
            return
        folder = above


def _known(folder: str, roots: Mapping[str, str]) -> str | None:
    if folder in roots or (folder.startswith("/") and not folder.startswith("//")):
        return roots.get(folder)  # a POSIX name has one spelling, a Windows one has many
    wanted = same_folder_key(folder)
    return next((key for at, key in roots.items() if same_folder_key(at) == wanted), None)


def _is_within(folder: str, root: str) -> bool:
    return folder == root or folder.startswith(root.rstrip("/") + "/")


def _is_folder(key: str) -> bool:
    return key.startswith(("/", "~")) or key[1:2] == ":"


# On disk -------------------------------------------------------------------------------------------------------------


def _key_on_disk(folder: str, roots: Mapping[str, str]) -> str | None:
    """The key of the git repository around a folder of this machine; None where there is none."""
    place = Path(folder)
    try:
        if not place.is_absolute() or not place.is_dir():
            return None
        repository = _repository(place)
        if repository is None:
            return None
        if remote := _remote(repository.git):
            return remote
    except OSError:  # no right to look there: as good as not there
        return None
    root = normalise_path(repository.root.as_posix())
    return _known(root, roots) or root


@dataclass(frozen=True, slots=True)
class _Repository:
    root: Path
    """Its main working folder; for a submodule the submodule's."""
    git: Path
    """The folder that holds its `config`: of a worktree, the main repository's."""


def _repository(folder: Path) -> _Repository | None:
    for here in (folder, *folder.parents):
        if here != folder and looks_like_home(here.as_posix()):
            return None  # dotfiles kept in git do not make one project of the home folder
        found = here / ".git"
        if (found / "config").is_file():
            return _Repository(here, found)
        if found.is_file() and (repository := _linked(here, found)):
            return repository
    return None


def _linked(here: Path, link: Path) -> _Repository | None:
    """Follow a `.git` file: of a worktree (whose `commondir` leads to the main repository) or of a submodule."""
    written = re.match(r"gitdir:\s*(.+?)\s*\Z", _read(link))
    if written is None:
        return None
    git = _normal(here / written[1])
    common = git / "commondir"
    if not common.is_file():
        return _Repository(here, git) if (git / "config").is_file() else None
    main = _normal(git / _read(common).strip())
    return _Repository(main.parent if main.name == ".git" else here, main)


def _normal(path: Path) -> Path:
    return Path(normalise_path(path.as_posix()))


_SECTION = re.compile(r"\[\s*(?P<name>[\w.-]+)\s*(?:\"(?P<sub>(?:[^\"\\]|\\.)*)\")?\s*\]")
_URL = re.compile(r"url\s*=\s*(?P<value>.*)", re.IGNORECASE)


def _remote(git: Path) -> str:
    """The repository's remote, normalised: `origin`, else the first that names a place; '' where there is none."""
    config = git / "config"
    urls = remote_urls(_read(config)) if config.is_file() else {}
    named = {name: remote for name, url in urls.items() if (remote := normalise_remote(url))}
    return named.get("origin") or next(iter(named.values()), "")


def remote_urls(config: str) -> dict[str, str]:
    r"""Read the remotes out of a git configuration text: name to first url. Lines that make no sense are passed over.

    >>> remote_urls('[core]\n\tbare = false\n[remote "origin"]\n\turl = git@github.com:ann/shop.git\n')
    {'origin': 'git@github.com:ann/shop.git'}
    """
    urls: dict[str, str] = {}
    remote = None
    for line in config.splitlines():
        line = line.strip()
        if section := _SECTION.match(line):
            remote = section["sub"] if section["name"].lower() == "remote" else None
            line = line[section.end() :].strip()
        if remote and (url := _URL.fullmatch(line)):
            value = re.sub(r"\s+[#;].*$", "", url["value"]).strip().strip('"')
            urls.setdefault(remote, value)
    return urls


def _read(path: Path) -> str:
    with path.open("rb") as stream:
        return stream.read(_MAX_CONFIG_bytes).decode("utf-8", "replace")
