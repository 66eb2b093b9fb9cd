from pathlib import Path

import pytest

from lmm_mcp.domain.project import NO_PROJECT, Project
from lmm_mcp.errors import BadInput
from lmm_mcp.store.projects import Learnt, follow, learn, merge, remote_urls, resolve

REMOTE = "github.com/harbour/till"
ORIGIN = '[remote "origin"]\n\turl = git@github.com:harbour/till.git\n'


def repository(root: Path, config: str = ORIGIN) -> Path:
    (root / ".git").mkdir(parents=True)
    (root / ".git" / "config").write_text("[core]\n\tbare = false\n" + config, encoding="utf-8")
    return root


def worktree(main: Path, at: Path) -> Path:
    own = main / ".git" / "worktrees" / at.name
    own.mkdir(parents=True)
    (own / "commondir").write_text("../..\n", encoding="utf-8")
    at.mkdir(parents=True)
    (at / ".git").write_text(f"gitdir: {own}\n", encoding="utf-8")
    return at


def key(cwd: object, **known: object) -> str:
    return resolve(str(cwd), **{"aliases": {}, "roots": {}, **known}).key  # type: ignore[arg-type]


# What the agent recorded, and names alone


def test_a_recorded_remote_names_the_project_wherever_it_lies():
    found = resolve("/nowhere/till", remote="https://github.com/harbour/till.git", aliases={}, roots={})
    assert found == Project(REMOTE, "remote")


def test_a_recorded_remote_that_is_no_remote_is_passed_over():
    assert key("/nowhere/till", remote="/srv/git/till.git") == "/nowhere/till"


def test_no_working_directory_is_no_project():
    assert resolve("", aliases={}, roots={"/": "x"}) == Project(NO_PROJECT, "cwd")


def test_an_unknown_folder_is_its_own_project():
    assert resolve("C:\\nowhere\\till\\", aliases={}, roots={}) == Project("c:/nowhere/till", "cwd")


def test_a_home_folder_is_its_own_project_and_nobody_elses():
    assert resolve("/home/nobody", aliases={}, roots={}).key == "/home/nobody"
    assert key("/home/nobody/till", roots={"/home/nobody": "/home/nobody"}) == "/home/nobody/till"


def test_an_asker_in_a_subfolder_belongs_to_the_nearest_known_root():
    roots = {"/nowhere": "/nowhere", "/nowhere/till": REMOTE}
    assert resolve("/nowhere/till/web/src", aliases={}, roots=roots) == Project(REMOTE, "root")
    assert key("/nowhere/tillage", roots=roots) == "/nowhere"


def test_windows_roots_are_found_in_any_letter_case_and_posix_roots_are_not():
    assert key("C:\\WORK\\Till\\web", roots={"c:/Work/till": REMOTE}) == REMOTE
    assert key("/nowhere/TILL", roots={"/nowhere/till": REMOTE}) == "/nowhere/TILL"


def test_a_worktree_seen_on_another_machine_belongs_to_its_main_folder():
    assert resolve("/nowhere/till__worktrees/fix", aliases={}, roots={}) == Project("/nowhere/till", "worktree")
    assert key("/nowhere/till/.worktrees/fix/web", roots={"/nowhere/till": REMOTE}) == REMOTE


# On disk


def test_the_remote_on_disk_is_found_from_a_subfolder(tmp_path):
    inside = repository(tmp_path / "till") / "web" / "src"
    inside.mkdir(parents=True)
    assert resolve(str(inside), aliases={}, roots={}) == Project(REMOTE, "git")


def test_the_disk_is_left_alone_when_told_so(tmp_path):
    root = repository(tmp_path / "till")
    assert key(root, read_git=False) == root.as_posix()


def test_a_worktree_and_its_main_folder_are_one_project(tmp_path):
    main = repository(tmp_path / "till")
    beside = worktree(main, tmp_path / "elsewhere" / "fix")
    assert key(beside) == key(main) == REMOTE


def test_a_worktree_of_a_repository_without_remote_is_named_by_the_main_folder(tmp_path):
    main = repository(tmp_path / "till", config="")
    beside = worktree(main, tmp_path / "elsewhere" / "fix")
    assert key(beside) == key(main) == main.as_posix()


def test_a_removed_worktree_is_found_through_its_main_folder(tmp_path):
    main = repository(tmp_path / "till")
    assert resolve(f"{main}/.worktrees/gone", aliases={}, roots={}) == Project(REMOTE, "worktree")


def test_a_submodule_is_a_project_of_its_own(tmp_path):
    main = repository(tmp_path / "till")
    own = main / ".git" / "modules" / "ledger"
    own.mkdir(parents=True)
    (own / "config").write_text('[remote "origin"]\n url = https://github.com/harbour/ledger\n', encoding="utf-8")
    (main / "ledger").mkdir()
    (main / "ledger" / ".git").write_text("gitdir: ../.git/modules/ledger\n", encoding="utf-8")
    assert key(main / "ledger") == "github.com/harbour/ledger"


def test_a_repository_that_lost_its_remote_keeps_the_name_it_is_known_by(tmp_path):
    root = repository(tmp_path / "till", config="")
    assert key(root, roots={root.as_posix(): REMOTE}) == REMOTE


@pytest.mark.parametrize("written", ["", "gitdir:", "nonsense", "gitdir: /nowhere/at/all", "\x00\xff"])
def test_a_broken_git_file_is_as_good_as_none(tmp_path, written):
    (tmp_path / "till").mkdir()
    (tmp_path / "till" / ".git").write_text(written, encoding="utf-8")
    assert key(tmp_path / "till") == (tmp_path / "till").as_posix()


def test_origin_goes_before_other_remotes_and_local_ones_do_not_count():
    config = (
        '; mine\n[remote "backup"]\nurl = /mnt/backup\n[branch "main"]\nurl = never\n'
        '[remote "upstream"]\n  fetch = +refs/heads/*\n  URL = "https://github.com/quay/till.git" # theirs\n'
        '[Remote "origin"] url = git@github.com:harbour/till.git\n[broken\n'
    )
    assert remote_urls(config) == {
        "backup": "/mnt/backup",
        "upstream": "https://github.com/quay/till.git",
        "origin": "git@github.com:harbour/till.git",
    }


def test_a_lone_local_remote_leaves_the_folder_as_the_name(tmp_path):
    root = repository(tmp_path / "till", config='[remote "backup"]\n url = /mnt/backup\n')
    assert key(root) == root.as_posix()


# Aliases


def test_aliases_are_followed_to_their_end():
    aliases = {"/nowhere/till": "old", "old": REMOTE}
    assert key("/nowhere/till", aliases=aliases) == REMOTE


def test_merging_in_a_circle_is_refused_and_a_circle_met_all_the_same_does_not_hang():
    aliases = merge("b", "c", merge("a", "b", {}))
    assert follow("a", aliases) == "c"
    with pytest.raises(BadInput, match="circle"):
        merge("c", "a", aliases)
    with pytest.raises(BadInput, match="circle"):
        merge("a", "a", {})
    with pytest.raises(BadInput):
        merge("", "a", {})
    assert {follow(name, {"a": "b", "b": "a"}) for name in ("a", "b")} == {"a", "b"}


# Learning from one session for the others


def project_keys(*sessions: tuple[str, str]) -> list[str]:
    """Resolve sessions (cwd, remote) one after another, learning from each; their keys as they stand at the end."""
    roots: dict[str, str] = {}
    aliases: dict[str, str] = {}
    given = []
    for cwd, remote in sessions:
        found = resolve(cwd, remote=remote, aliases=aliases, roots=roots)
        learnt = learn(cwd, found, roots=roots)
        roots |= learnt.roots
        for folder, into in learnt.aliases.items():
            aliases = merge(folder, into, aliases)
        given.append(found.key)
    return [follow(name, aliases) for name in given]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("other", ["/nowhere/till", "/nowhere/till/web", "/nowhere/till/.worktrees/fix"])
def test_one_folder_recorded_with_and_without_its_remote_is_one_project_in_any_order(order, other):
    sessions = [("/nowhere/till", "git@github.com:harbour/till.git"), (other, "")][::order]
    assert project_keys(*sessions) == [REMOTE, REMOTE]


@pytest.mark.parametrize("order", [1, -1])
def test_a_remote_recorded_in_a_worktree_names_the_main_folder_too(order):
    sessions = [("/nowhere/till__worktrees/fix", "git@github.com:harbour/till.git"), ("/nowhere/till", "")][::order]
    assert project_keys(*sessions) == [REMOTE, REMOTE]


def test_a_repository_inside_another_keeps_its_own_name():
    keys = project_keys(
        ("/nowhere/till/ledger", "git@github.com:harbour/ledger.git"),
        ("/nowhere/till", "git@github.com:harbour/till.git"),
    )
    assert keys == ["github.com/harbour/ledger", REMOTE]


def test_neighbours_without_a_remote_stay_apart():
    assert project_keys(("/nowhere/a", ""), ("/nowhere/b", ""), ("/nowhere/a/src", "")) == [
        "/nowhere/a",
        "/nowhere/b",
        "/nowhere/a",
    ]


def test_nothing_is_learnt_from_a_home_folder():
    learnt = learn("/home/nobody", Project(REMOTE, "remote"), roots={"/home/nobody/x": "/home/nobody/x"})
    assert (learnt.roots, learnt.aliases) == ({}, {})


def test_a_folder_longer_than_any_is_none_and_costs_nothing():
    endless = "/a" * 2_000_000
    found = resolve(endless, aliases={}, roots={"/work": "/work"})
    assert found == Project("", "cwd")
    assert learn(endless, found, roots={"/work": "/work"}) == Learnt({}, {})
