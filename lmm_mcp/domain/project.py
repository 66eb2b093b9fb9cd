"""What a project is called. The key is stable: a remote where there is one, else the root folder.

Everything here judges names alone; `lmm_mcp.store.projects` looks at the disk.
Sessions come from other machines too, so a path is never taken for one of the system this runs on.
"""

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

NO_PROJECT = ""
"""Key of what belongs to no project."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project as recall knows it."""

    key: str
    """`github.com/owner/name` for a known remote, else a folder path with `/` separators and no trailing one."""
    how: str
    """Which rule named it: `remote`, `git`, `worktree`, `root`, `cwd`."""


_SCP_LIKE = re.compile(r"^(?:[^@/\\]+@)?(?P<host>\[[^\]]+\]|[^:/\\@\s]{2,}):(?!:)(?P<path>[^\\]*)$")
_BARE = re.compile(r"^(?P<host>[\w-]+(?:\.[\w-]+)*\.[a-zA-Z]{2,}(?<!\.git))/(?P<path>[^\\]+)$")
_SAME_HOST = {
    "ssh.github.com": "github.com",  # the hosts' own ways in through port 443
    "altssh.gitlab.com": "gitlab.com",
    "altssh.bitbucket.org": "bitbucket.org",
}


def normalise_remote(url: str) -> str:
    """Name a git remote the same however it is written: `host/owner/name`, without protocol, credentials, port or `.git`.

    '' for what is no remote: a local path, a bundle, an empty setting. A name made here stays as it is.

    >>> normalise_remote("git@GitHub.com:Owner/Name.git")
    'github.com/Owner/Name'
    >>> normalise_remote("ssh://git@code.example.org:2222/team/sub/shop")
    'code.example.org/team/sub/shop'
    >>> normalise_remote("https://user:token@github.com/Owner/Name.git/")
    'github.com/Owner/Name'
    >>> normalise_remote("github.com/Owner/Name")
    'github.com/Owner/Name'
    >>> [normalise_remote(path) for path in ("/srv/git/shop.git", "../shop", "file:///srv/shop.git", "C:/shop", "")]
    ['', '', '', '', '']
    """
    url = url.strip()
    if "://" in url:
        try:
            parts = urlsplit(url)
            host, path = parts.hostname or "", parts.path
        except ValueError:  # an unclosed bracket in the host
            return ""
        if parts.scheme == "file":
            return ""
    elif (found := _SCP_LIKE.match(url)) or (found := _BARE.match(url)):
        host, path = found["host"].strip("[]"), found["path"]
    else:
        return ""
    steps = [step for step in path.split("/") if step]
    if steps:
        steps[-1] = steps[-1].removesuffix(".git")
    if not host or not steps or not steps[-1] or {".", ".."} & set(steps):
        return ""
    host = host.lower()
    return "/".join((_SAME_HOST.get(host, host), *steps))


_DRIVE = re.compile(r"^[a-zA-Z]:(?=$|[/\\])")
_WSL_SHARE = re.compile(r"^//(?:wsl\$|wsl\.localhost)/[^/]+(?=/|$)", re.IGNORECASE)
_REMOTE_URI = re.compile(r"^(?:vscode-remote|vscode-vfs)://[^/]*(?=/|$)")


def normalise_path(path: str) -> str:
    r"""Write a folder the same however it is written: `/` between steps, none at the end, drive letter lower-cased.

    `file://`, editors' remote and WSL forms lose their wrapping. Nothing is looked up on disk and links are not
    followed; '' stays ''. Letters keep their case: `same_folder_key` compares.

    >>> normalise_path("C:\\Users\\Ann\\shop\\")
    'c:/Users/Ann/shop'
    >>> normalise_path("/home/ann/./shop/web/..")
    '/home/ann/shop'
    >>> normalise_path("file:///c%3A/Users/Ann/my%20shop")
    'c:/Users/Ann/my shop'
    >>> normalise_path("vscode-remote://wsl%2Bubuntu/home/ann/shop")
    '/home/ann/shop'
    >>> normalise_path("\\\\wsl$\\Ubuntu\\home\\ann")
    '/home/ann'
    """
    if not path:
        return ""
    if path.startswith("file://"):
        path = unquote(path.removeprefix("file://").removeprefix("localhost"))
        if not path.startswith("/"):
            path = "//" + path  # file://server/share
        elif _DRIVE.match(path[1:]):
            path = path[1:]
    elif wrapping := _REMOTE_URI.match(path):
        path = unquote(path[wrapping.end() :]) or "/"
        if _DRIVE.match(path[1:]):
            path = path[1:]
    if not path.startswith("/"):  # a POSIX name may hold a backslash, though nobody is glad of it
        path = path.replace("\\", "/")
        path = re.sub(r"^//[?.]/(?:UNC/)?", lambda mark: "//" if mark[0].endswith("UNC/") else "", path)
    if share := _WSL_SHARE.match(path):
        path = path[share.end() :] or "/"
    if _DRIVE.match(path):
        rest = posixpath.normpath("/" + path[2:].lstrip("/"))
        return path[0].lower() + ":" + rest
    return posixpath.normpath(path)


def same_folder_key(path: str) -> str:
    """Make a normalised path comparable: letter case counts for POSIX paths and not for Windows ones.

    >>> same_folder_key("c:/Users/Ann") == same_folder_key("c:/users/ann")
    True
    >>> same_folder_key("/home/Ann") == same_folder_key("/home/ann")
    False
    """
    return path.casefold() if _DRIVE.match(path) or path.startswith("//") else path


_HOME = re.compile(r"^(?:/|/root|/(?:home|Users)(?:/[^/]+)?|[a-z]:/(?:Users(?:/[^/]+)?)?)$", re.IGNORECASE)


def looks_like_home(path: str) -> bool:
    """Whether a normalised path is somebody's home folder, or above one: a place that holds projects and is none.

    >>> [looks_like_home(path) for path in ("/home/ann", "c:/Users/Ann", "/root", "/", "/home/ann/shop")]
    [True, True, True, True, False]
    """
    return bool(_HOME.match(path))


_SUFFIXES = ("__worktrees", "-worktrees", ".worktrees")


def worktree_root(path: str) -> str | None:
    """Find the main folder of a git worktree by the name of its path alone; None where the name tells nothing.

    >>> worktree_root("/work/shop__worktrees/fix-login/src")
    '/work/shop'
    >>> worktree_root("/work/shop/.worktrees/fix-login")
    '/work/shop'
    >>> worktree_root("/work/shop/.claude/worktrees/fix-login")
    '/work/shop'
    >>> worktree_root("/home/ann/.codex/worktrees/4f2a/shop") is None
    True
    """
    steps = normalise_path(path).split("/")
    for at, step in enumerate(steps[:-1]):
        above = steps[:at]
        if step in ("worktrees", ".worktrees") and above:
            if above[-1] in (".claude", ".git"):
                above = above[:-1]
            elif above[-1].startswith("."):
                continue  # ~/.codex/worktrees/<id>/<name>: the name is the folder's, its root is recorded nowhere
            root = "/".join(above)
        elif suffix := next((suffix for suffix in _SUFFIXES if step.endswith(suffix) and step != suffix), None):
            root = "/".join((*above, step.removesuffix(suffix)))
        else:
            continue
        if root and not _DRIVE.fullmatch(root) and not looks_like_home(root):
            return root
    return None
