"""What the user excluded, by folder, remote or agent, however it is written."""

from pathlib import Path

import pytest

from lmm_mcp.config import Sessions
from lmm_mcp.exclusion import Exclusion


def excluded_paths(*rules: str) -> Exclusion:
    return Exclusion.of(Sessions(exclude_paths=rules))


def excluded_remotes(*rules: str) -> Exclusion:
    return Exclusion.of(Sessions(exclude_remotes=rules))


def test_nothing_is_excluded_by_default() -> None:
    assert not Exclusion.of(Sessions()).excludes("codex", "/work/shop", "https://github.com/ann/shop")
    assert not Exclusion.of(Sessions()).excludes("codex", "", "")


def test_an_agent_is_excluded_by_its_name() -> None:
    rules = Exclusion.of(Sessions(exclude_agents=("codex",)))
    assert rules.excludes("codex", "/anywhere", "")
    assert not rules.excludes("claude-code", "/anywhere", "")


@pytest.mark.parametrize("cwd", ["/work/secret", "/work/secret/", "/work/secret/deep/down", "/work/./secret"])
def test_a_folder_is_excluded_with_everything_below(cwd: str) -> None:
    assert excluded_paths("/work/secret").excludes("codex", cwd, "")
    assert excluded_paths("/work/secret/").excludes("codex", cwd, "")


@pytest.mark.parametrize("cwd", ["/work/secretary", "/work", "/other/work/secret", ""])
def test_a_folder_that_only_looks_alike_is_not_excluded(cwd: str) -> None:
    assert not excluded_paths("/work/secret").excludes("codex", cwd, "")


def test_a_star_stands_for_anything() -> None:
    rules = excluded_paths("/work/client-*", "/srv/*/private")
    assert rules.excludes("codex", "/work/client-a/src", "")
    assert rules.excludes("codex", "/srv/ann/private/x", "")
    assert not rules.excludes("codex", "/work/clients", "")


def test_a_tilde_is_the_home_of_the_one_who_wrote_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("USERPROFILE", "/home/ann")
    rules = excluded_paths("~/clients", "~/vault-*")
    assert rules.excludes("codex", "/home/ann/clients/a", "")
    assert rules.excludes("codex", "/home/ann/vault-2", "")
    assert not rules.excludes("codex", "/home/bob/clients", "")


@pytest.mark.parametrize(
    "cwd", [r"C:\Work\Secret", r"c:\work\secret\deep", "c:/Work/Secret/deep", "file:///C%3A/Work/Secret"]
)
def test_windows_folders_are_the_same_in_either_case_and_with_either_sign(cwd: str) -> None:
    for rule in (r"C:\Work\Secret", "c:/work/secret", r"C:\Work\Sec*"):
        assert excluded_paths(rule).excludes("codex", cwd, "")
    assert not excluded_paths(r"D:\Work\Secret").excludes("codex", cwd, "")


def test_case_counts_where_the_system_says_so() -> None:
    assert not excluded_paths("/work/Secret").excludes("codex", "/work/secret", "")


REMOTES = [
    "git@github.com:acme/vault.git",
    "https://github.com/acme/vault",
    "https://ann:token@github.com/acme/vault.git",
    "ssh://git@github.com:22/acme/vault.git",
    "github.com/acme/vault",
    "https://GitHub.com/Acme/Vault.git/",
]


@pytest.mark.parametrize("remote", REMOTES)
@pytest.mark.parametrize(
    "rule", [*REMOTES, "github.com/acme/*", "https://github.com/acme/*", "github.com/acme", "*/acme/*"]
)
def test_a_remote_is_excluded_however_it_is_written(rule: str, remote: str) -> None:
    assert excluded_remotes(rule).excludes("codex", "", remote)


@pytest.mark.parametrize("remote", ["git@github.com:acme-labs/vault.git", "https://gitlab.com/acme/vault", ""])
def test_another_remote_is_not_excluded(remote: str) -> None:
    assert not excluded_remotes("github.com/acme/*", "github.com/acme").excludes("codex", "/github.com/acme/x", remote)


def test_signs_that_mean_something_to_patterns_mean_themselves() -> None:
    assert excluded_paths("/work/c++ (old)").excludes("codex", "/work/c++ (old)/src", "")
    assert not excluded_paths("/work/a.b").excludes("codex", "/work/aXb", "")


def test_the_fingerprint_changes_with_the_rules_and_only_with_them() -> None:
    one, again, other = excluded_paths("/a"), excluded_paths("/a"), excluded_remotes("/a")
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != other.fingerprint


def test_a_home_of_a_user_that_is_not_known_excludes_nothing_and_stops_nothing():
    assert not excluded_paths("~nobody-of-that-name/work").excludes_place("codex", "/work")
    assert Sessions(folders=("aider=~nobody-of-that-name",)).named_folders() == (
        ("aider", Path("~nobody-of-that-name")),
    )
