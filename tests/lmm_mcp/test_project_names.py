import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmm_mcp.domain.project import (
    looks_like_home,
    normalise_path,
    normalise_remote,
    same_folder_key,
    worktree_root,
)


@pytest.mark.parametrize(
    "url",
    [
        "git@github.com:harbour/till.git",
        "org-4711@github.com:harbour/till.git",
        "github.com:harbour/till",
        "ssh://git@github.com/harbour/till.git",
        "ssh://git@ssh.github.com:443/harbour/till.git",
        "git+ssh://git@github.com:22/harbour/till",
        "git://GITHUB.com/harbour/till.git/",
        "https://ann:ghp_notARealToken@github.com/harbour/till.git/",
        "http://github.com:8080//harbour/till",
        " https://github.com/harbour/till?tab=readme#top ",
        "github.com/harbour/till",
    ],
)
def test_every_way_to_write_a_remote_gives_one_name(url):
    assert normalise_remote(url) == "github.com/harbour/till"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "  ",
        ".",
        "../till",
        "/srv/git/till.git",
        "~/till",
        "file:///srv/git/till.git",
        "C:\\git\\till",
        "C:/git/till",
        "\\\\server\\git\\till",
        "https://github.com",
        "https://github.com/..git",
        "https://[broken/till",
        "git@github.com:",
        "transport::address",
        "till",
    ],
)
def test_what_is_no_remote_has_no_name(url):
    assert normalise_remote(url) == ""


def test_a_remote_name_keeps_groups_and_the_case_of_its_owner():
    assert normalise_remote("git@Code.Example.org:Harbour/shops/Till.git") == "code.example.org/Harbour/shops/Till"


@given(st.text(max_size=60))
def test_naming_a_remote_twice_changes_nothing(url):
    name = normalise_remote(url)
    assert normalise_remote(name) in (name, "")


def test_no_part_of_a_password_stays_in_a_remote_name():
    assert "s3cret" not in normalise_remote("https://ann:s3cret@git.example.org/harbour/till.git")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("", ""),
        ("/", "/"),
        ("/work/till/", "/work/till"),
        ("/work//till/./web/..", "/work/till"),
        ("/work/odd\\name", "/work/odd\\name"),
        ("C:\\Users\\Ann\\till", "c:/Users/Ann/till"),
        ("C:/Users\\Ann/till/", "c:/Users/Ann/till"),
        ("c:", "c:/"),
        ("\\\\?\\C:\\Users\\Ann", "c:/Users/Ann"),
        ("\\\\?\\UNC\\server\\share\\till", "//server/share/till"),
        ("\\\\server\\share\\till", "//server/share/till"),
        ("file:///work/my%20till", "/work/my till"),
        ("file://localhost/work/till", "/work/till"),
        ("file:///c%3A/Users/Ann", "c:/Users/Ann"),
        ("vscode-remote://ssh-remote%2Bbox/work/till", "/work/till"),
        ("vscode-remote://wsl%2Bubuntu/home/ann/till", "/home/ann/till"),
        ("\\\\wsl.localhost\\Debian\\home\\ann\\till", "/home/ann/till"),
        ("//wsl$/Ubuntu/home/ann/till", "/home/ann/till"),
    ],
)
def test_a_folder_has_one_name_on_every_system(written, name):
    assert normalise_path(written) == name
    assert normalise_path(name) == name


@given(st.text(alphabet="abC:/\\.%~ wsl$?-_", max_size=24))
def test_naming_a_plain_folder_twice_changes_nothing(path):
    name = normalise_path(path)
    if "%" not in name and not name.startswith(("//?", "//.", "//wsl")):
        assert normalise_path(name) == name


def test_letter_case_counts_in_posix_names_only():
    assert same_folder_key("c:/Work/Till") == same_folder_key("c:/work/till")
    assert same_folder_key("//Server/Share") == same_folder_key("//server/share")
    assert same_folder_key("/Work/Till") != same_folder_key("/work/till")


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/work/till__worktrees/fix-receipts", "/work/till"),
        ("/work/till__worktrees/fix-receipts/web/src", "/work/till"),
        ("/work/till-worktrees/fix", "/work/till"),
        ("/work/till.worktrees/fix", "/work/till"),
        ("/work/till/.worktrees/fix", "/work/till"),
        ("/work/till/worktrees/fix", "/work/till"),
        ("/work/till/.claude/worktrees/fix", "/work/till"),
        ("/work/till/.git/worktrees/fix", "/work/till"),
        ("C:\\work\\till\\.worktrees\\fix", "c:/work/till"),
        ("/work/till/.worktrees/fix/.claude/worktrees/again", "/work/till"),
    ],
)
def test_the_main_folder_of_a_worktree_is_seen_in_its_path(path, root):
    assert worktree_root(path) == root


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/work/till",
        "/work/till/.worktrees",
        "/home/ann/.codex/worktrees/4f2a/till",
        "/home/ann/worktrees/till",
        "/home/ann/.claude/worktrees/till",
        "/worktrees/till",
        "C:\\worktrees\\till",
        "/work/__worktrees/till",
    ],
)
def test_a_path_that_tells_no_main_folder_gives_none(path):
    assert worktree_root(path) is None


def test_home_folders_are_known_by_their_place():
    assert all(
        looks_like_home(path) for path in ("/", "/root", "/home", "/home/ann", "/Users/ann", "c:/Users/Ann", "c:/")
    )
    assert not any(looks_like_home(path) for path in ("/home/ann/till", "/work", "c:/Users/Ann/till", "c:/work"))
