"""Connecting agents: their own files, changed as little as can be, and what they were again afterwards."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest

from lmm_mcp import config, doctor
from lmm_mcp.domain.agents import PLACES
from lmm_mcp.errors import BadInput, ConfigError
from lmm_mcp.integrations import files, registry
from lmm_mcp.integrations import program as programs
from lmm_mcp.integrations.claude_code import ClaudeCode
from lmm_mcp.integrations.codex import Codex
from lmm_mcp.integrations.contract import Change, Program

GLOBAL, SETTINGS, TOML = ".claude.json", ".claude/settings.json", ".codex/config.toml"
JSONS = [
    "{}",
    "{ }",
    "{\n}\n",
    "",
    "\n",
    '{"a":1}',
    '{\r\n\t"a": 1\r\n}\r\n',
    '\ufeff{"a":1}\n',
    '{"mcpServers":{},"hooks":{}}',
    '{"mcpServers":{ },"hooks":{"SessionStart":[ ]}}',
    '{\n  "mcpServers": {\n    "x": {"command":"q"}\n  },\n  "hooks": {\n    "SessionStart": [\n      {"hooks":[{"type":"command","command":"x"}]}\n    ],\n    "Stop": []\n  }\n}\n',
    '{"é":"\\u00e9","numPrompts": 1e2, "x":"</"}',
]
TOMLS = [
    "",
    "\n",
    "a=1",
    "a = 1 # mine\n\n\n",
    "\ufeffa=1\n",
    "a=1\r\n[b]\r\nc=2\r\n",
    "[mcp_servers]\n",
    '[mcp_servers.x]\ncommand="x"\n# the end\n',
    'mcp_servers={x={command="q"}}\n',
    "mcp_servers = { }\n",
    'mcp_servers.x.command="q"\n',
]


class User:
    """A home folder with agents in it, and a memory."""

    def __init__(self, folder: Path, program: Program) -> None:
        self.folder, self.program = folder, program
        self.env = {"HOME": str(folder), "LMM_HOME": str(folder / "memory")}
        self.memory = folder / "memory"
        self.memory.mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    def read(self, name: str) -> str:
        return (self.folder / name).read_bytes().decode()

    def plans(self, *names: str, program: Program | None = None, force: bool = False):
        agents = registry.named(names or ("claude-code", "codex"))
        return registry.connecting(agents, self.env, program or self.program, self.memory, force=force)

    def connect(self, *names: str, **named) -> None:
        for plan in self.plans(*names, **named):
            registry.connect(plan, self.memory)

    def disconnect(self, *names: str) -> None:
        for plan in registry.disconnecting(registry.named(names or ("claude-code", "codex")), self.env, self.memory):
            registry.disconnect(plan, self.memory)

    def everything(self) -> dict[str, tuple[bytes, int] | None]:
        return {
            str(path.relative_to(self.folder)): (path.read_bytes(), path.stat().st_mode) if path.is_file() else None
            for path in self.folder.rglob("*")
        }

    def states(self, program: Program | None = None) -> list[str]:
        return [agent.look(self.env, program or self.program).state for agent in registry.ALL]


@pytest.fixture
def program(tmp_path) -> Program:
    path = tmp_path / "an installation" / "lmm"
    path.parent.mkdir()
    path.touch()
    return Program((str(path),))


@pytest.fixture
def user(tmp_path, program) -> User:
    folder = tmp_path / "user"
    folder.mkdir()
    return User(folder, program)


def test_an_empty_home_is_empty_again_afterwards(user):
    before = user.everything()
    user.connect()
    assert user.states() == ["connected", "connected"]
    user.disconnect()
    assert user.everything() == before


@pytest.mark.parametrize("text", JSONS)
def test_claude_code_s_files_come_back_to_the_same_bytes(user, text):
    user.write(GLOBAL, text)
    user.write(SETTINGS, text)
    before = user.everything()
    user.connect("claude-code")
    assert user.states()[0] == "connected"
    user.disconnect("claude-code")
    assert user.everything() == before


@pytest.mark.parametrize("text", TOMLS)
def test_codex_file_comes_back_to_the_same_bytes(user, text):
    user.write(TOML, text)
    before = user.everything()
    user.connect("codex")
    assert user.states()[1] == "connected"
    user.disconnect("codex")
    assert user.everything() == before


def test_what_the_clients_read_is_what_they_write_themselves(user, program):
    user.connect()
    entry = json.loads(user.read(GLOBAL))["mcpServers"]["lmm"]
    assert entry == {"type": "stdio", "command": program.words[0], "args": ["mcp"], "env": {}, "alwaysLoad": True}
    (group,) = json.loads(user.read(SETTINGS))["hooks"]["SessionStart"]
    assert group["matcher"] == "startup|resume|clear|compact"
    assert group["hooks"] == [{"type": "command", "command": f"'{program.words[0]}' hook session-start", "timeout": 5}]
    table = tomllib.loads(user.read(TOML))["mcp_servers"]["lmm"]
    assert (table["command"], table["args"]) == (program.words[0], ["mcp"])


def test_what_says_where_sessions_lie_and_what_may_be_read_gets_through_codex(user):
    user.connect("codex")
    passed_on = {*tomllib.loads(user.read(TOML))["mcp_servers"]["lmm"]["env_vars"]}
    assert {*PLACES, "LMM_HOME", *map(config.variable, config.names())} == passed_on


def test_a_memory_elsewhere_is_named_in_every_entry(user, program):
    user.connect(program=Program(program.words, "/mnt/my memory"))
    assert json.loads(user.read(GLOBAL))["mcpServers"]["lmm"]["env"] == {"LMM_HOME": "/mnt/my memory"}
    assert "hook session-start --home '/mnt/my memory'" in user.read(SETTINGS)
    assert tomllib.loads(user.read(TOML))["mcp_servers"]["lmm"]["env"] == {"LMM_HOME": "/mnt/my memory"}


def test_twice_is_once(user):
    user.connect()
    before = user.everything()
    assert all(plan.is_done for plan in user.plans())
    user.connect()
    assert user.everything() == before


def test_an_entry_of_another_installation_is_updated_and_keeps_what_the_user_added(user, program):
    user.write(
        GLOBAL,
        json.dumps(
            {"mcpServers": {"lmm": {"command": "/old/bin/lmm", "args": ["mcp"], "timeout": 9, "env": {"A": "b"}}}}
        ),
    )
    user.write(
        SETTINGS,
        json.dumps(
            {
                "hooks": {
                    "SessionStart": [
                        {"hooks": [{"type": "command", "command": "/old/bin/lmm hook session-start", "timeout": 9}]}
                    ]
                }
            }
        ),
    )
    user.write(TOML, '[mcp_servers.lmm]\ncommand = "/old/bin/lmm"\nargs = ["mcp"]\ntool_timeout_sec = 9 # mine\n')
    assert user.states() == ["stale", "stale"]
    user.connect()
    assert user.states() == ["connected", "connected"]
    entry = json.loads(user.read(GLOBAL))["mcpServers"]["lmm"]
    assert (entry["command"], entry["timeout"], entry["env"]) == (program.words[0], 9, {"A": "b"})
    ((hook,),) = [group["hooks"] for group in json.loads(user.read(SETTINGS))["hooks"]["SessionStart"]]
    assert hook["timeout"] == 9 and hook["command"].startswith(f"'{program.words[0]}'")
    assert "tool_timeout_sec = 9 # mine" in user.read(TOML)


def test_a_moved_installation_is_followed_and_still_leaves_no_trace(user, tmp_path):
    before = user.everything()
    user.connect(program=Program(("/first/lmm",)))
    user.connect(program=Program(("/second/lmm",), "/mnt/m"))
    assert "/first" not in user.read(GLOBAL) + user.read(SETTINGS) + user.read(TOML)
    user.disconnect()
    assert user.everything() == before


def test_what_the_user_changed_meanwhile_stays_and_only_our_part_goes(user):
    user.write(GLOBAL, '{\n  "numStartups": 1\n}\n')
    user.write(TOML, 'model = "a"\n')
    user.connect()
    written = json.loads(user.read(GLOBAL))
    user.write(
        GLOBAL,
        json.dumps(
            {**written, "mcpServers": {**written["mcpServers"], "film": {"command": "f"}}, "oauth": 1}, indent=2
        ),
    )
    settings = json.loads(user.read(SETTINGS))
    settings["hooks"]["SessionStart"][0]["hooks"].append({"type": "command", "command": "mine"})
    user.write(SETTINGS, json.dumps(settings | {"theme": "dark"}))
    user.write(TOML, user.read(TOML).replace('"a"', '"b"') + '\n[mcp_servers.film]\ncommand = "f"\n')
    user.disconnect()
    assert json.loads(user.read(GLOBAL)) == {"numStartups": 1, "mcpServers": {"film": {"command": "f"}}, "oauth": 1}
    left = json.loads(user.read(SETTINGS))
    assert left["theme"] == "dark" and [hook["command"] for hook in left["hooks"]["SessionStart"][0]["hooks"]] == [
        "mine"
    ]
    assert user.read(TOML) == 'model = "b"\n\n[mcp_servers.film]\ncommand = "f"\n'


def test_what_the_user_wrote_below_our_lines_in_codex_file_belongs_to_nobody_else_afterwards(user):
    user.write(TOML, "[tui]\ntheme = 1\n")
    user.connect("codex")
    user.write(TOML, user.read(TOML) + "enabled = false\n")
    user.disconnect("codex")
    assert tomllib.loads(user.read(TOML)) == {"tui": {"theme": 1}}


def test_without_a_memory_of_what_was_made_only_our_part_goes_all_the_same(user):
    user.write(GLOBAL, '{"a": 1}')
    user.write(TOML, "a = 1\n")
    user.connect()
    (user.memory / registry.TRACES).unlink()
    user.disconnect()
    assert json.loads(user.read(GLOBAL)) == {"a": 1}
    assert tomllib.loads(user.read(TOML)) == {"a": 1}
    assert "lmm" not in user.read(GLOBAL) + user.read(SETTINGS) + user.read(TOML)


def test_a_server_of_the_user_s_own_of_the_same_name_is_left_alone_unless_forced(user):
    user.write(GLOBAL, '{"mcpServers": {"lmm": {"command": "npx", "args": ["lunar-module"]}}}')
    user.write(TOML, '[mcp_servers.lmm]\nurl = "https://example.org/mcp"\n')
    before = user.everything()
    for name in ("claude-code", "codex"):
        with pytest.raises(ConfigError, match="--force"):
            user.plans(name)
    user.disconnect()
    assert user.everything() == before
    assert user.states() == ["foreign", "foreign"]
    user.connect(force=True)
    assert user.states() == ["connected", "connected"]


@pytest.mark.parametrize("name", [GLOBAL, SETTINGS, TOML])
@pytest.mark.parametrize("content", [b"{ damaged", b"\xff\xfe{\x00}\x00", b"[1]\nx", b'{"mcpServers": 1, "hooks": 1}'])
def test_a_damaged_file_is_named_and_nothing_is_touched(user, name, content):
    path = user.write(name, "")
    path.write_bytes(content)
    before = user.everything()
    with pytest.raises(ConfigError, match=path.name):
        user.connect()
    assert user.everything() == before


def test_rights_and_links_stay_what_they_are(user, tmp_path):
    dotfiles = tmp_path / "dotfiles.json"
    dotfiles.write_text("{}", encoding="utf-8")
    dotfiles.chmod(0o640)
    (user.folder / GLOBAL).symlink_to(dotfiles)
    user.connect("claude-code")
    assert (user.folder / GLOBAL).is_symlink()
    assert "mcpServers" in dotfiles.read_text(encoding="utf-8")
    assert stat.S_IMODE(dotfiles.stat().st_mode) == 0o640
    assert stat.S_IMODE((user.folder / SETTINGS).stat().st_mode) == 0o600
    user.disconnect("claude-code")
    assert dotfiles.read_text(encoding="utf-8") == "{}"


def test_what_a_link_leads_to_comes_and_goes_and_the_link_stays(user, tmp_path):
    there = tmp_path / "dotfiles" / "claude.json"
    (user.folder / GLOBAL).symlink_to(there)  # nothing is there yet
    user.connect("claude-code")
    assert there.exists()
    user.disconnect("claude-code")
    assert (user.folder / GLOBAL).is_symlink()
    assert not there.exists()


@pytest.mark.skipif(os.name != "posix", reason="named pipes")
def test_a_pipe_in_place_of_a_file_is_named_and_not_waited_for(user):
    os.mkfifo(user.folder / GLOBAL)
    with pytest.raises(ConfigError, match="is no file"):
        user.connect("claude-code")


def test_a_file_that_its_agent_wrote_meanwhile_is_not_overwritten(user):
    path = user.write(GLOBAL, "{}")
    (plan,) = user.plans("claude-code")
    path.write_text('{"account": 1}', encoding="utf-8")
    with pytest.raises(ConfigError, match="try again"):
        registry.connect(plan, user.memory)
    assert user.read(GLOBAL) == '{"account": 1}'
    user.connect("claude-code")
    assert json.loads(user.read(GLOBAL))["account"] == 1


def test_the_lock_of_the_running_client_is_waited_for(user):
    user.write(GLOBAL, "{}")
    lock = user.folder / ".claude.json.lock"
    lock.mkdir()
    waiting = threading.Event()

    def let_go() -> None:
        waiting.wait()
        lock.rmdir()

    client = threading.Thread(target=let_go)
    client.start()
    (plan,) = user.plans("claude-code")
    writer = threading.Thread(target=registry.connect, args=(plan, user.memory))
    writer.start()
    assert user.read(GLOBAL) == "{}"
    waiting.set()
    writer.join()
    client.join()
    assert "lmm" in user.read(GLOBAL)
    assert not lock.exists()


def test_a_lock_that_was_left_behind_stops_nobody(user):
    user.write(GLOBAL, "{}")
    lock = user.folder / ".claude.json.lock"
    lock.mkdir()
    long_ago = time.time() - 10 * files.STALE_LOCK_s
    os.utime(lock, (long_ago, long_ago))
    user.connect("claude-code")
    assert user.states()[0] == "connected"


def test_what_dies_between_two_files_is_completed_and_taken_back(user):
    user.write(SETTINGS, "{ }")
    before = user.everything()
    (plan,) = user.plans("claude-code")
    broken = registry.Plan(plan.agent, (plan.changes[0], Change(plan.changes[1].path, b"something else", b"")))
    with pytest.raises(ConfigError, match="Written so far"):
        registry.connect(broken, user.memory)
    assert user.states()[0] == "partly"
    user.connect("claude-code")
    user.disconnect("claude-code")
    assert user.everything() == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_named(user):
    path = user.write(TOML, "a = 1\n")
    path.parent.chmod(0o500)
    with pytest.raises(ConfigError, match="right"):
        user.connect("codex")
    path.parent.chmod(0o700)


def test_the_folders_that_the_environment_names_are_used(user, tmp_path):
    env = {**user.env, "CLAUDE_CONFIG_DIR": str(tmp_path / "c"), "CODEX_HOME": str(tmp_path / "x")}
    paths = [change.path for agent in registry.ALL for change in agent.connect(env, user.program, {})]
    assert paths == [tmp_path / "c" / ".claude.json", tmp_path / "c" / "settings.json", tmp_path / "x" / "config.toml"]


def test_the_global_file_of_an_old_claude_code_is_found(user):
    old = user.write(".claude/.config.json", "{}")
    assert ClaudeCode().global_file(user.env) == old
    old.write_text("", encoding="utf-8")
    assert ClaudeCode().global_file(user.env) == user.folder / GLOBAL


def test_a_program_that_is_gone_or_another_is_told(user, program, tmp_path):
    user.connect()
    other = tmp_path / "other" / "lmm"
    other.parent.mkdir()
    other.touch()
    assert user.states(Program((str(other),))) == ["stale", "stale"]
    Path(program.words[0]).unlink()
    told = [agent.look(user.env, program).told for agent in registry.ALL]
    assert all("not there any more" in each for each in told)


def test_one_without_its_other_half_is_partly_connected(user):
    user.connect("claude-code")
    (user.folder / SETTINGS).unlink()
    assert user.states()[0] == "partly"
    assert ClaudeCode().look(user.env, user.program).told.endswith("is missing")


def test_an_unknown_agent_is_refused_with_those_there_are():
    with pytest.raises(BadInput, match="claude-code, codex"):
        registry.named(["claude-code", "hal"])
    assert [agent.name for agent in registry.named(["Claude Code", "codex", "codex"])] == ["claude-code", "codex"]


def test_only_agents_of_this_machine_are_found(user):
    assert registry.found(user.env) == []
    (user.folder / ".codex").mkdir()
    assert [agent.name for agent in registry.found(user.env)] == ["codex"]


def test_on_windows_a_path_that_no_shell_can_quote_alike_goes_past_the_shell():
    assert programs.for_a_shell([r"C:\Users\Ann B\lmm.exe", "hook", "session-start"], windows=True) is None
    assert programs.is_our_hook([r"C:\Users\Ann B\lmm.exe", "hook", "session-start"])


def test_codex_keeps_its_comments_where_the_entry_cannot_stand_at_the_end(user):
    user.write(TOML, '# servers\nmcp_servers = { film = { command = "f" } } # all\n')
    user.connect("codex")
    assert set(tomllib.loads(user.read(TOML))["mcp_servers"]) == {"film", "lmm"}
    assert user.read(TOML).startswith("# servers\n") and user.read(TOML).endswith("# all\n")
    assert Codex().look(user.env, user.program).state == "connected"


# The command line


def lmm(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lmm_mcp", *arguments],
        env={**os.environ, "USERPROFILE": env["HOME"], **env, "CLAUDE_CONFIG_DIR": "", "CODEX_HOME": ""},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        timeout=60,
    )


def test_a_dry_run_shows_the_change_and_makes_none(user):
    user.write(TOML, "# mine\n")
    before = user.everything()
    done = lmm(user.env, "install", "claude-code", "codex", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "+[mcp_servers.lmm]" in done.stdout and " # mine" in done.stdout and "+++ " in done.stdout
    assert "`alwaysLoad` shows" in done.stdout and "`env_vars` names" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Nothing was changed")
    assert user.everything() == before


def test_install_and_uninstall_by_the_command_line(user):
    user.write(TOML, "# mine\n")
    user.write(GLOBAL, '{"a": 1}')
    done = lmm(user.env, "install", "codex", "claude-code")
    assert done.returncode == 0 and "Codex is connected" in done.stdout, done.stderr
    assert "Nothing was changed" not in done.stdout and "alwaysLoad" not in done.stdout
    assert "connected already" in lmm(user.env, "install", "codex").stdout
    refused = lmm(user.env, "uninstall")
    assert refused.returncode == 1 and "--yes" in refused.stderr
    done = lmm(user.env, "uninstall", "--yes")
    assert done.returncode == 0 and "disconnected" in done.stdout, done.stderr
    assert (user.read(TOML), user.read(GLOBAL)) == ("# mine\n", '{"a": 1}')
    assert lmm(user.env, "uninstall").stdout == "No agent is connected.\n"


def test_where_no_agent_is_found_those_that_can_be_named_are(user):
    done = lmm(user.env, "install")
    assert done.returncode == 1 and "claude-code, codex" in done.stderr


def test_the_doctor_names_a_connection_to_a_program_that_is_gone(user):
    (user.folder / ".codex").mkdir()
    (finding,) = [each for each in doctor.connections(doctor.Patient(None, user.env)) if "Codex" in each.what]
    assert (finding.level, finding.next_step) == ("warn", "`lmm install codex`")
    user.connect("codex", program=Program(("/gone/lmm",)))
    (finding,) = [each for each in doctor.connections(doctor.Patient(None, user.env)) if "Codex" in each.what]
    assert (finding.level, finding.next_step) == ("bad", "`lmm install codex`")
    assert "/gone/lmm" in finding.what
