"""The commands as people and scripts use them, over a real memory."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from lmm_mcp import children, config
from lmm_mcp.cli import program, reading
from lmm_mcp.config import Embedder
from lmm_mcp.domain.fence import FENCE_CLOSE, FENCE_OPEN
from lmm_mcp.paths import Home
from lmm_mcp.store.ledger import Ledger

HARBOUR = "/home/mira/harbour"
PORT_QUESTION = "which port does the development database use?"


class Shell:
    """Runs commands in this process, as one user."""

    def __init__(self, env: dict[str, str], monkeypatch, capsys) -> None:
        for name in ("HOME", "USERPROFILE", "LMM_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"):
            monkeypatch.setenv(name, env[name])
        monkeypatch.setenv("LMM_EMBEDDER_NAME", "none")
        self.home = Home(Path(env["LMM_HOME"]))
        self._capsys = capsys

    def run(self, *arguments: str, expect: int = 0) -> str:
        """Standard output of a command that ends with the code expected."""
        return self.both(*arguments, expect=expect)[0]

    def both(self, *arguments: str, expect: int = 0) -> tuple[str, str]:
        self._capsys.readouterr()
        code = program.run(arguments)
        told = self._capsys.readouterr()
        assert code == expect, told.err + told.out
        return told.out, told.err


@pytest.fixture
def reader(harbour_env, monkeypatch, capsys) -> Shell:
    """A user who only reads the shared memory."""
    return Shell(harbour_env, monkeypatch, capsys)


@pytest.fixture
def owner(own_env, monkeypatch, capsys) -> Shell:
    """A user with a memory of their own."""
    return Shell(own_env, monkeypatch, capsys)


@pytest.fixture
def newcomer(tmp_path, monkeypatch, capsys) -> Shell:
    """A user without sessions and without a memory."""
    names = {"CLAUDE_CONFIG_DIR": ".claude", "CODEX_HOME": ".codex", "LMM_HOME": "lmm"}
    env = {name: str(tmp_path / folder) for name, folder in names.items()}
    return Shell({**env, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}, monkeypatch, capsys)


# Ask


def test_recall_prints_the_brief_with_its_fence_where_no_person_looks(reader):
    told = reader.run("recall", PORT_QUESTION, "--project", "*")
    assert told.startswith(FENCE_OPEN)
    assert "5433" in told
    assert "\x1b[" not in told


def test_recall_as_json_is_json_alone_in_the_shape_of_the_tool(reader):
    found = json.loads(reader.run("recall", PORT_QUESTION, "-p", "harbour", "--budget", "200", "--json"))
    assert list(found) == ["status", "text", "sessions", "citations", "notes"]
    assert found["status"] == "found"
    assert len(found["text"]) <= 200 * 4


def test_recall_explains_itself_on_request_and_quotes_within_the_fence(reader):
    plain, told = (reader.run("recall", PORT_QUESTION, "-p", "*", *flags) for flags in ((), ("--explain",)))
    assert told.startswith(plain)
    explained = told.removeprefix(plain).strip()
    assert (explained.splitlines()[0], explained.splitlines()[-1]) == (FENCE_OPEN, FENCE_CLOSE)
    for part in ("words looked for, ", "looked at: all projects", "BM25", "best lines", "left out", "told:"):
        assert part in explained
    found = json.loads(reader.run("recall", PORT_QUESTION, "-p", "*", "--explain", "--json"))
    assert "\n".join(found["explanation"]) in explained
    silent = reader.run("recall", "zyzzyva quokka xylophone", "-p", "*", "--explain")
    assert "silent:" in silent


def test_a_time_without_a_question_is_what_the_timeline_is_for(reader):
    _, complaint = reader.both("recall", "--since", "7d", expect=2)
    assert complaint.startswith("lmm: Ask a question, or name a file.")
    assert "`lmm timeline --since 7d`" in complaint
    assert "timeline" not in reader.both("recall", expect=2)[1]


def test_what_a_pipe_brings_is_cut_so_that_a_file_can_be_asked_about_as_well(reader, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("noise " * 10_000 + PORT_QUESTION))
    assert "5433" in reader.run("recall", "-", "--file", "src/db.py", "--project", "*")


def test_what_cannot_be_measured_is_refused_before_anything_is_asked(reader, tmp_path):
    suite = tmp_path / "suite.jsonl"
    suite.write_text('{"id": "a", "question": "which port?"}\n', encoding="utf-8")
    for flags, told in (
        (("--results", str(tmp_path / "none" / "a.jsonl")), "there is no folder"),
        (("--results", str(tmp_path / "a.jsonl"), "--without", "nope"), "no part of recall"),
        (("--results", str(tmp_path / "a.jsonl"), "--arm", "nope"), "there is no arm"),
    ):
        out, err = reader.both("bench", "questions", str(suite), *flags, expect=1)
        assert told in err
        assert "Traceback" not in out + err
    assert list(tmp_path.glob("a*")) == []


def test_the_id_in_a_brief_leads_to_the_whole_passage(reader):
    found = json.loads(reader.run("recall", PORT_QUESTION, "-p", "*", "--json"))
    chunk_id = found["citations"][0]["id"]
    assert chunk_id in found["text"]
    assert chunk_id in reader.run("show", chunk_id)
    (passage,) = json.loads(reader.run("show", chunk_id, "--json", "--before", "1"))
    assert passage["thread"]["session_id"] == found["citations"][0]["session"]


def test_the_session_in_a_brief_leads_to_all_that_was_said_in_it(reader):
    found = json.loads(reader.run("recall", PORT_QUESTION, "-p", "*", "--json"))
    session = found["citations"][0]["session"]
    (short,) = set(re.findall(rf"session ({session[:8]}\S*)", found["text"]))
    passages = json.loads(reader.run("show", short, "--json"))
    assert {passage["thread"]["session_id"] for passage in passages} == {session}
    assert all(passage["num_earlier"] == passage["num_later"] == 0 for passage in passages)
    cited = json.loads(reader.run("show", found["citations"][0]["id"], "--json"))[0]["events"]
    assert any(event in passage["events"] for passage in passages for event in cited)
    assert "unknown id" in reader.both("show", "c1", expect=1)[1]


def test_a_note_can_be_recalled_right_after_it_was_left(owner):
    told = json.loads(owner.run("remember", "Berth 44 belongs to the harbour master.", "-p", "harbour", "--json"))
    assert told["project"] == HARBOUR
    assert "harbour master" in owner.run("recall", "who has berth 44?", "-p", "harbour")


def test_a_note_is_found_while_reading_is_paused(owner):
    owner.run("pause")
    owner.run("remember", "Berth 46 belongs to the pilot.", "-p", "harbour")
    assert "pilot" in owner.run("recall", "who has berth 46?", "-p", "harbour")


def test_a_note_that_cannot_be_read_yet_is_kept_and_not_called_findable(owner):
    record = owner.home.store / "store.json"  # of a newer version: the ingest process refuses to write
    written = record.read_text(encoding="utf-8")
    record.write_text(written.replace('"schema_version": ', '"schema_version": 9'), encoding="utf-8")
    told = owner.run("remember", "Berth 45 is free.", "-p", "*")
    assert "could not be made findable yet" in told
    (inbox,) = owner.home.notes.glob("*.jsonl")
    assert "Berth 45 is free." in inbox.read_text(encoding="utf-8")


# Read


def test_import_reads_once_and_says_so(newcomer, harbour_env):
    sessions = Path(harbour_env["CLAUDE_CONFIG_DIR"])
    first = newcomer.run("import", str(sessions), "--words-only")
    assert re.match(r"read 4 files \(\d", first)
    again = json.loads(newcomer.run("import", str(sessions), "--json"))
    assert again["files"] == 0
    assert "lmm demo" not in newcomer.run("import", str(sessions))


def test_import_beside_an_agents_reader_has_it_read_by_that_one(newcomer, harbour_env):
    home = newcomer.home.ensure()
    other = children.start_ingest(home, os.environ, stay=True)
    while (said := children.progress(home)) is None or said.phase != "watching":
        assert other.wait(0.05) is None
    assert "runs already" in newcomer.run("import", harbour_env["CODEX_HOME"])
    assert "migrate" in newcomer.run("recall", "deploy to staging, migrations first", "-p", "*")
    other.stop()


def test_import_of_what_is_not_there_is_refused(newcomer):
    _, complaint = newcomer.both("import", "/no/such/folder", expect=1)
    assert complaint.startswith("lmm: /no/such/folder does not exist")


def test_a_file_that_is_no_session_is_refused_and_leaves_no_complaint_behind(newcomer, tmp_path):
    wrong = [tmp_path / "README.md", tmp_path / "measurements.jsonl"]
    wrong[0].write_text("# Read me\n", encoding="utf-8")
    wrong[1].write_text('{"metres": 3}\n', encoding="utf-8")
    for path in (str(wrong[0]), str(wrong[1]), "", os.devnull):
        out, complaint = newcomer.both("import", path, expect=1)
        assert "`lmm agents --all`" in complaint
        assert path in complaint
        assert out == ""
    assert "unreadable" not in newcomer.run("status")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_a_pipe_is_refused_and_nobody_waits_for_it(newcomer, tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "is no session file" in newcomer.both("import", str(tmp_path / "pipe.jsonl"), expect=1)[1]


def test_where_nothing_is_remembered_the_next_step_is_told(newcomer):
    assert "nothing has been imported yet" in (before := newcomer.run("status"))
    assert "`lmm import` reads the sessions" in before
    assert "`lmm status` says what is remembered" in newcomer.both("recall", "which port?", "-p", "*")[1]
    assert "`lmm demo`" in newcomer.run("import")
    assert "no session was found that is to be remembered: `lmm agents --all`" in newcomer.run("status")


def test_a_small_reading_is_told_in_kilobytes():
    said = children.Progress(phase="done", files_total=1, files_done=1, bytes_done=48_200, chunks=3)
    assert reading.summary(said) == "read 1 file (49 kB), 3 passages remembered"


def test_nothing_is_read_while_reading_is_paused(owner):
    owner.run("pause")
    _, complaint = owner.both("import", expect=1)
    assert "lmm resume" in complaint
    assert "paused" in owner.run("status")
    owner.run("resume")
    owner.run("import", "--words-only")


def test_the_demo_answers_its_three_questions_and_leaves_nothing_behind(newcomer):
    answers = json.loads(newcomer.run("demo", "--json"))
    texts = [answer["text"] for answer in answers]
    assert [answer["status"] for answer in answers] == ["found"] * 3
    assert "5433" in texts[0]
    assert "test_cart" in texts[1]
    assert "anonymous_cart" in texts[2]
    assert not newcomer.home.store.exists()


def test_start_asks_about_the_newest_session_and_shows_how_to_connect(owner):
    told = owner.run("start")
    assert "> how often does the lamp turn?" in told
    assert "ZEBRAFISH" in told
    assert " install claude-code codex" in told


def test_start_asks_what_it_is_told_to(owner):
    told = owner.run("start", "--question", PORT_QUESTION)
    assert f"> {PORT_QUESTION}" in told
    assert "5433" in told


def test_start_without_sessions_shows_invented_ones_and_throws_them_away(newcomer):
    told = newcomer.run("start", "--wait", "0")
    assert "No sessions of any agent were found" in told
    assert "5433" in told
    assert not list(newcomer.home.root.glob("demo*"))
    assert "no session was found that is to be remembered: `lmm agents --all`" in newcomer.run("status")


def test_start_never_takes_sessions_that_are_not_read_yet_for_none(own_env, monkeypatch, capsys):
    owner = Shell({**own_env, "LMM_HOME": own_env["LMM_HOME"] + "-new"}, monkeypatch, capsys)
    with children.borrowed_write_lock(owner.home.ensure()):  # so that nothing can be read now
        told = owner.run("start", "--wait", "0")
    assert "reading goes on in the background" in told
    assert "invented" not in told
    assert " install " in told


def test_start_says_that_reading_is_paused(owner):
    owner.run("pause")
    assert "lmm resume" in owner.both("start", expect=1)[1]


# Keep


def test_status_counts_what_is_remembered(reader):
    now = json.loads(reader.run("status", "--json"))
    assert now["num_sessions"] == 5
    assert now["num_chunks"] == sum(now["by_agent"].values()) == sum(now["by_project"].values())
    assert now["is_reading"] is False
    assert "remembered: 5 sessions" in reader.run("status")


def test_the_doctor_says_how_many_more_there_are_and_lists_them_all_as_json(owner):
    ledger = Ledger.open(owner.home.ledger)
    for line in range(1, 14):
        ledger.record_unreadable("/sessions/torn.jsonl", line, "not JSON")
    ledger.close()
    told = owner.run("doctor")
    assert told.count("torn.jsonl") == 10
    assert "and 3 more" in told
    assert owner.run("doctor", "--json").count("torn.jsonl") == 13


def test_forgetting_shows_first_and_then_leaves_no_byte(owner):
    needle = "ZEBRAFISH"
    question = ("recall", "keeper code of the lighthouse", "-p", "*")
    assert needle in owner.run(*question)
    told = owner.run("forget", "--match", needle.lower())
    assert "1 message in 1 session would be forgotten" in told
    assert needle in owner.run(*question)

    owner.run("forget", "--match", needle.lower(), "--yes")
    assert needle not in owner.run(*question)
    owner.run("import")  # the agent's own file still holds it
    assert needle not in owner.run(*question)
    assert "how often does the lamp turn" in owner.run("recall", "how often does the lamp turn?", "-p", "*")
    files = [path for path in owner.home.root.rglob("*") if path.is_file()]
    assert not [path for path in files if needle.encode() in path.read_bytes()]


def test_a_forgotten_project_is_gone(owner):
    owner.run("forget", "--project", "lighthouse", "--yes")
    assert list(json.loads(owner.run("projects", "--json"))["projects"]) == [HARBOUR]
    assert "nothing of that kind" in owner.run("forget", "--match", "lighthouse")


def test_forgetting_everything_by_mistake_is_refused(owner):
    _, complaint = owner.both("forget", "--yes", expect=1)
    assert "say what to forget" in complaint


def test_merged_projects_answer_as_one(owner):
    owner.run("projects", "merge", "lighthouse", "harbour")
    assert list(json.loads(owner.run("projects", "--json"))["projects"]) == [HARBOUR]
    assert "ZEBRAFISH" in owner.run("recall", "keeper code of the lighthouse", "-p", "harbour")
    _, complaint = owner.both("projects", "merge", "harbour", "lighthouse", expect=1)
    assert complaint.startswith("lmm: ")


# Set up


def test_settings_are_shown_with_where_they_come_from(newcomer, monkeypatch):
    newcomer.run("config", "set", "recall.budget_tokens", "800")
    monkeypatch.setenv("LMM_EMBEDDER_NUM_THREADS", "2")
    found = {one["name"]: one for one in json.loads(newcomer.run("config", "--json"))}
    assert list(found) == list(config.names())
    assert found["recall.budget_tokens"]["value"] == 800
    assert found["recall.budget_tokens"]["source"] == str(newcomer.home.config)
    assert found["embedder.num_threads"]["source"] == "LMM_EMBEDDER_NUM_THREADS"
    assert found["sessions.codex"]["source"] == "default"


def test_settings_say_what_they_mean_and_what_it_means_that_one_is_unset(newcomer):
    told = newcomer.run("config")
    assert "(none)" not in told
    assert "sessions.codex = no further folder   [default]" in told
    assert "beside `CODEX_HOME` or `~/.codex`" in told
    assert "sessions.exclude_paths = nothing is left out" in told


def test_setting_one_keeps_the_rest_of_the_file_and_its_comments(newcomer):
    newcomer.home.ensure()
    newcomer.home.config.write_text("# mine\n[recall]\nbudget_tokens = 900  # why\n", encoding="utf-8")
    newcomer.run("config", "set", "sessions.exclude_paths", "~/secret", "~/clients/*")
    text = newcomer.home.config.read_text(encoding="utf-8")
    assert "# mine" in text
    assert "900  # why" in text
    assert config.load(newcomer.home.config, {}).sessions.exclude_paths == ("~/secret", "~/clients/*")
    newcomer.run("config", "set", "sessions.exclude_paths")
    assert config.load(newcomer.home.config, {}).sessions.exclude_paths == ()


@pytest.mark.parametrize("wrong", [("recall.budget_tokens", "3"), ("recall.budget_tokens", "x"), ("no.such", "1")])
def test_a_wrong_setting_is_refused_and_nothing_changes(newcomer, wrong):
    _, complaint = newcomer.both("config", "set", *wrong, expect=1)
    assert complaint.startswith("lmm: ")
    assert not newcomer.home.config.exists()


def test_vectors_are_not_thrown_away_where_no_model_could_make_new_ones(owner, monkeypatch):
    monkeypatch.setenv("LMM_EMBEDDER_NAME", "nobody/has-this-model")
    assert json.loads(owner.run("embedder", "show", "--json"))["is_there"] is False
    _, complaint = owner.both("embedder", "rebuild", expect=1)
    assert "nothing was thrown away" in complaint


def test_a_model_that_is_made_ready_embeds_what_was_read(owner, monkeypatch, minilm_home):
    monkeypatch.setenv("LMM_EMBEDDER_NAME", Embedder().name)
    owner.home.models.symlink_to(minilm_home.models)
    owner.run("import")
    shown = json.loads(owner.run("embedder", "show", "--json"))
    assert (shown["vectors_of"], shown["num_unembedded"]) == (Embedder().name, 0)
    assert re.match(r"embedded \d+ passages", owner.run("embedder", "rebuild"))
    assert json.loads(owner.run("embedder", "show", "--json"))["num_unembedded"] == 0
    found = json.loads(owner.run("recall", PORT_QUESTION, "-p", "harbour", "--json"))
    assert (found["status"], found["notes"]) == ("found", [])


def test_a_suite_of_questions_is_answered_into_a_file(reader, tmp_path):
    suite, results = tmp_path / "suite.jsonl", tmp_path / "results.jsonl"
    asked = {"id": "q1", "question": PORT_QUESTION, "project": HARBOUR, "asked_at": "2026-04-01T00:00:00Z"}
    early = {"id": "q2", "question": PORT_QUESTION, "project": HARBOUR, "asked_at": "2026-01-01T00:00:00Z"}
    suite.write_text(json.dumps(asked) + "\n" + json.dumps(early) + "\n", encoding="utf-8")
    reader.run("bench", "questions", str(suite), "--results", str(results))
    first, second = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert "5433" in first["text"]
    assert first["sessions"]
    assert second["abstained"] is True


# When it cannot go on


@pytest.mark.parametrize("group", [(), ("bench",), ("embedder",)], ids=["lmm", "lmm bench", "lmm embedder"])
def test_a_command_without_arguments_shows_its_help_and_is_no_mistake(newcomer, group):
    told, complaint = newcomer.both(*group)
    assert f"Usage: {' '.join(('lmm', *group))}" in told
    assert complaint == ""


def test_a_mistyped_command_is_told_its_neighbours_in_one_sentence_after_another(reader):
    _, complaint = reader.both("statu", expect=2)
    assert "Did you mean 'status'" in complaint
    assert complaint.endswith("? Try `lmm --help`.\n")


@pytest.mark.parametrize(
    "arguments", [("recall",), ("recall", "x", "--nonsense"), ("nonsense",), ("show", "x", "--before", "x")]
)
def test_what_was_not_said_right_ends_with_two_and_points_to_the_help(reader, arguments):
    out, complaint = reader.both(*arguments, expect=2)
    assert complaint.startswith("lmm: ")
    assert "--help" in complaint
    assert out == ""


@pytest.mark.parametrize(
    "arguments",
    [("recall", " "), ("recall", "x", "--since", "soon"), ("recall", "x", "-p", "harbor"), ("show", "c1")],
)
def test_what_cannot_be_done_is_said_in_one_line(reader, arguments):
    out, complaint = reader.both(*arguments, expect=1)
    assert complaint.startswith("lmm: ")
    assert len(complaint.splitlines()) == 1
    assert out == ""


@pytest.mark.parametrize(
    "arguments",
    [("recall", ""), ("recall", "x", "-p", "zzz"), ("recall", "x", "--budget", "3"), ("recall", "x", "--until", "no")],
)
def test_complaints_are_in_the_words_of_the_command_line(reader, arguments):
    _, complaint = reader.both(*arguments, expect=1)
    assert not re.search(r'recall\(|project="|budget_tokens|the query', complaint), complaint


def test_why_nothing_was_found_is_told_once_and_how_to_ask_more(reader, tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("[core]\n\tbare = false\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    out, aside = reader.both("recall", PORT_QUESTION)
    assert (out + aside).count(f"project {tmp_path}") == 1
    assert 'add --project "*" to ask all projects' in out


def commands(group, prefix: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        yield (*prefix, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))


@pytest.mark.parametrize("command", list(commands(typer.main.get_command(program.app))), ids=" ".join)
def test_every_command_explains_itself(newcomer, command):
    told = newcomer.run(*command, "--help")
    assert f"Usage: lmm {' '.join(command)}" in told
    assert not newcomer.home.root.exists()


def run_alone(env: dict[str, str], *arguments: str, **more) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "lmm_mcp", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", timeout=60, **more)


def test_a_reader_that_leaves_early_causes_no_complaint(harbour_env):
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "lmm_mcp", "status"]
    done = subprocess.run(command, env=harbour_env, stdout=write_end, stderr=subprocess.PIPE, timeout=60)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(os.name != "posix", reason="signals of a terminal")
def test_an_interrupted_import_ends_at_once_and_its_child_too(own_env):
    env = {**own_env, "LMM_HOME": own_env["LMM_HOME"] + "-new"}
    home = Home(Path(env["LMM_HOME"])).ensure()
    command = [sys.executable, "-m", "lmm_mcp", "import"]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        while children.progress(home) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
            assert process.returncode is None
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=30)
    assert process.returncode in (0, 130)  # 0: it was done before the signal came
    assert b"Traceback" not in complaint
    with children.borrowed_write_lock(home, timeout_s=children.STOP_GRACE_s):
        pass  # whoever gets it knows that the child works no more
    assert run_alone(env, "status").returncode == 0


def test_the_version_is_told_without_a_memory(newcomer):
    assert newcomer.run("--version").strip()
    assert not newcomer.home.root.exists()
