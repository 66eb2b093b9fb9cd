"""Memory models on the disk: committed, promoted, taken back, marked, and what is served whatever happened to them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lmm_mcp import artifacts
from lmm_mcp.artifacts import Manifest, Sources, Torn, Version
from lmm_mcp.domain.verdict import Finding, Keep, Outcome, Promote, Said, ScoreSheet, Verdict
from lmm_mcp.errors import BadInput, ModelError
from lmm_mcp.paths import Home

LAMP, BOAT = ("codex", "lamp"), ("claude-code", "boat")
GOOD = Promote((Finding("G1", True, "it learned", {"difference": 0.4}),))
BAD = Keep((Finding("G1", True, "it learned"), Finding("G4", False, "it cannot count any more", {"ratio": 1.5})))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "lmm").ensure()


def manifest(verdict: Verdict | None = GOOD, base: str = "Qwen/Qwen3-0.6B") -> Manifest:
    return Manifest(
        base=base,
        base_hash="b",
        store_version="s7",
        lessons_hash="l",
        probes_hash="p",
        recipe={"rank": 32},
        seed=17,
        run="r1",
        code_version="0.1",
        libraries={"torch": "2.13"},
        hardware="two cores",
        verdict=verdict,
        num_lessons=3,
        made_ms=1_700_000_000_000,
    )


def trained(
    home: Home,
    *threads: tuple[str, str],
    verdict: Verdict | None = GOOD,
    base: str = "Qwen/Qwen3-0.6B",
    as_of: int | None = None,
) -> Version:
    """A version as a run commits it."""
    sources = Sources.of(threads, ["c" * 16], as_of=artifacts.forgettings(home) if as_of is None else as_of)
    folder = artifacts.draft(home)
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(4096))
    (folder / "adapter" / "adapter_config.json").write_text("{}", encoding="utf-8")
    outcome = Outcome("p1", "fact", "project fact", "2026-W07", 1.0, output="the port is 8081")
    sheet = ScoreSheet("v", "p", {"weights": (outcome,)}, 1.5, 4096, 12.0)
    return artifacts.commit(home, folder, manifest(verdict, base), sheet, sources)


def weights(version: Version) -> Path:
    return version.adapter / "adapter_model.safetensors"


def name_of(version: Version | None) -> str | None:
    return version.name if version else None


def test_a_committed_version_is_found_whole_and_serves_only_when_promoted(home):
    version = trained(home, LAMP)
    assert version.name == "v0001"
    assert version.manifest.verdict == GOOD
    assert version.manifest.recipe == {"rank": 32}
    assert {mark.path for mark in version.manifest.files} == {
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "sheet.json",
    }
    assert artifacts.served(home) is None
    artifacts.promote(home, "v0001")
    assert name_of(artifacts.served(home)) == artifacts.current(home) == "v0001"


def test_what_a_model_said_is_not_kept_with_it(home):
    sheet = trained(home, LAMP).sheet()
    assert sheet is not None
    assert sheet.outcomes["weights"][0].score == 1.0
    assert not [path for path in home.artifacts.rglob("*") if path.is_file() and b"8081" in path.read_bytes()]


def test_a_run_keeps_what_the_gate_asks_for():
    outcome = Outcome("p1", "fact", "project fact", "2026-W07", 1.0, output="the port is 8081", supported=0.5)
    said = Said(1, 1.0, 1.0, None, None, 1.0)
    sheet = ScoreSheet("v", "p", {"weights": (outcome,)}, 1.5, 4096, 12.0, 3, {"weights": {"project fact": said}})
    assert artifacts.sheet_of(artifacts.sheet_told(sheet, with_outputs=True)) == sheet


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_nobody_else_can_read_any_of_it(home):
    artifacts.promote(home, trained(home, LAMP).name)
    for path in home.artifacts.rglob("*"):
        if path.name != ".lock":
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_draft_without_weights_becomes_no_version(home):
    with pytest.raises(ModelError, match="holds no weights"):
        artifacts.commit(home, artifacts.draft(home), manifest(), None, Sources.of([], [], as_of=0))
    assert artifacts.versions(home) == []


@pytest.mark.parametrize("verdict", [BAD, None])
def test_what_the_gate_kept_out_is_promoted_by_force_alone(home, verdict):
    trained(home, LAMP, verdict=verdict)
    with pytest.raises(ModelError, match="G4: it cannot count any more" if verdict else "nobody has judged") as refused:
        artifacts.promote(home, "v0001")
    assert "--force" in str(refused.value)
    assert artifacts.served(home) is None
    artifacts.promote(home, "v0001", force=True)
    assert name_of(artifacts.served(home)) == "v0001"


def test_rolling_back_goes_through_what_served_before_and_ends_with_none(home):
    for _ in range(3):
        trained(home, LAMP)
    artifacts.promote(home, "v0001")
    artifacts.promote(home, "v0003")
    assert name_of(artifacts.rollback(home)) == "v0001"
    assert artifacts.rollback(home) is None
    assert artifacts.served(home) is None
    with pytest.raises(ModelError, match="nothing to take back"):
        artifacts.rollback(home)


def test_a_version_that_never_served_is_no_way_out(home):
    trained(home, LAMP, verdict=BAD)
    artifacts.promote(home, trained(home, LAMP).name)
    weights(artifacts.find(home, "v0002")).unlink()
    assert artifacts.served(home) is None


@pytest.mark.parametrize("how", ["cut off", "changed within", "deleted"])
def test_a_damaged_version_is_not_served_and_the_one_before_it_is(home, how):
    for _ in range(2):
        artifacts.promote(home, trained(home, LAMP).name)
    file = weights(artifacts.find(home, "v0002"))
    data = bytearray(file.read_bytes())
    if how == "cut off":
        file.write_bytes(data[:-1])
    elif how == "changed within":
        data[2000] ^= 1
        file.write_bytes(data)
    else:
        file.unlink()
    assert name_of(artifacts.served(home)) == "v0001"
    with pytest.raises(ModelError, match="v0002 is damaged"):
        artifacts.promote(home, "v0002", force=True)


def test_promoting_reads_every_byte_even_where_size_and_time_are_right(home):
    version = trained(home, LAMP)
    times = weights(version).stat()
    data = bytearray(weights(version).read_bytes())
    data[2000] ^= 1
    weights(version).write_bytes(data)
    os.utime(weights(version), ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ModelError, match="is not what was written there"):
        artifacts.promote(home, version.name)


def test_a_copied_home_serves_although_all_its_times_are_others(home, tmp_path):
    artifacts.promote(home, trained(home, LAMP).name)
    shutil.copytree(home.artifacts, tmp_path / "copy" / "artifacts", copy_function=shutil.copyfile)
    assert name_of(artifacts.served(Home(tmp_path / "copy"))) == "v0001"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 99}', '{"format": 1}', "null", '"v"', '{"format": 1, "files": [{"path": 3}]}']
)
def test_a_torn_manifest_makes_a_torn_version_and_breaks_nothing(home, text):
    for _ in range(2):
        artifacts.promote(home, trained(home, LAMP).name)
    (home.artifacts / "versions" / "v0002" / "manifest.json").write_text(text, encoding="utf-8")
    torn = artifacts.find(home, "v0002")
    assert isinstance(torn, Torn)
    assert "manifest.json" in torn.problem
    assert name_of(artifacts.served(home)) == "v0001"
    with pytest.raises(ModelError, match="v0002 is damaged"):
        artifacts.promote(home, "v0002", force=True)
    assert trained(home, LAMP).name == "v0003"


def test_a_manifest_that_names_files_elsewhere_is_torn(home):
    path = trained(home, LAMP).folder / "manifest.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    told["files"][0]["path"] = "../../../notes"
    path.write_text(json.dumps(told), encoding="utf-8")
    assert isinstance(artifacts.find(home, "v0001"), Torn)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"../../etc\n", b"v9999\n"])
def test_a_current_file_that_names_nothing_serves_nothing(home, content):
    trained(home, LAMP)
    (home.artifacts / "current").write_bytes(content)
    assert artifacts.served(home) is None


@pytest.mark.parametrize("name", ["../v0001", "", "v1", "current"])
def test_a_name_that_is_none_is_refused(home, name):
    with pytest.raises(BadInput):
        artifacts.find(home, name)
    with pytest.raises(BadInput):
        artifacts.run_folder(home, "../" + name)


def test_five_are_kept_the_current_one_among_them_however_old(home):
    artifacts.promote(home, trained(home, LAMP).name)
    for _ in range(7):
        trained(home, LAMP, verdict=BAD)
    assert [each.name for each in artifacts.versions(home)] == ["v0001", "v0005", "v0006", "v0007", "v0008"]
    assert name_of(artifacts.served(home)) == "v0001"


def test_rejected_candidates_never_push_out_what_served_before(home):
    for _ in range(3):
        artifacts.promote(home, trained(home, LAMP).name)
    for _ in range(6):
        trained(home, LAMP, verdict=BAD)
    assert [each.name for each in artifacts.versions(home)] == ["v0001", "v0002", "v0003", "v0008", "v0009"]


def test_what_was_trained_on_forgotten_threads_is_marked_and_the_newest_clean_one_serves(home):
    artifacts.promote(home, trained(home, BOAT).name)
    for _ in range(2):
        artifacts.promote(home, trained(home, LAMP, BOAT).name)
    assert artifacts.mark_unclean(home, [LAMP]) == 2
    assert name_of(artifacts.served(home)) == "v0001"
    assert [each.unclean is not None for each in artifacts.versions(home)] == [False, True, True]
    with pytest.raises(ModelError, match="forgotten"):
        artifacts.promote(home, "v0003", force=True)
    told = json.loads((artifacts.find(home, "v0003").folder / "unclean.json").read_text(encoding="utf-8"))
    assert told["num_sources"] == 1
    assert artifacts.mark_unclean(home, [BOAT]) == 3
    assert artifacts.served(home) is None


def test_no_file_tells_which_threads_taught_a_model(home):
    trained(home, ("codex", "thread-of-the-zebrafish"))
    artifacts.mark_unclean(home, [("codex", "thread-of-the-zebrafish")])
    assert not [path for path in home.root.rglob("*") if path.is_file() and b"zebrafish" in path.read_bytes()]


def test_a_clean_version_takes_the_unclean_ones_away(home):
    artifacts.promote(home, trained(home, LAMP).name)
    artifacts.mark_unclean(home, [LAMP])
    assert trained(home, BOAT).name == "v0002"
    assert [each.name for each in artifacts.versions(home)] == ["v0001", "v0002"]
    artifacts.promote(home, "v0002")
    assert [each.name for each in artifacts.versions(home)] == ["v0002"]


def test_what_is_forgotten_while_a_model_is_trained_makes_it_unclean_when_it_comes(home):
    as_of = artifacts.forgettings(home)
    artifacts.mark_unclean(home, [LAMP])
    assert trained(home, BOAT, as_of=as_of).unclean is None
    assert trained(home, LAMP, as_of=as_of).unclean is not None
    assert trained(home, LAMP).unclean is None, (
        "it was read after the forgetting: what is left of the thread may be learned"
    )


def test_a_version_that_cannot_tell_its_sources_is_marked_by_any_forgetting(home):
    version = trained(home, BOAT)
    (version.folder / "sources.json").write_text("{", encoding="utf-8")
    assert artifacts.mark_unclean(home, [LAMP]) == 1
    assert artifacts.find(home, "v0001").unclean is not None


def test_a_base_made_of_forgotten_text_makes_all_that_stands_on_it_unclean(home):
    base = artifacts.base_folder(home, "tiny")
    base.mkdir(parents=True)
    artifacts.write_sources(base, Sources.of([LAMP], [], as_of=artifacts.forgettings(home)))
    artifacts.promote(home, trained(home, BOAT, base="tiny").name)
    artifacts.promote(home, trained(home, BOAT, base=str(base)).name)
    assert name_of(artifacts.served(home)) == "v0002"
    assert artifacts.mark_unclean(home, [LAMP]) == 2
    assert artifacts.served(home) is None
    assert trained(home, BOAT, base="tiny").unclean is not None, "the base is still the unclean one"


def test_what_else_was_fitted_and_says_so_is_marked(home):
    as_of = artifacts.forgettings(home)
    for folder in (home.artifacts / "ranking", home.models / "mine"):
        folder.mkdir(parents=True)
        artifacts.write_sources(folder, Sources.of([LAMP], [], as_of=as_of))
        assert not artifacts.is_unclean(folder)
    artifacts.mark_unclean(home, [BOAT])
    assert not artifacts.is_unclean(home.models / "mine")
    artifacts.mark_unclean(home, [LAMP])
    assert artifacts.is_unclean(home.artifacts / "ranking")
    assert artifacts.is_unclean(home.models / "mine")


def test_an_untrained_memory_gets_no_folder_by_forgetting(home):
    assert artifacts.mark_unclean(home, [LAMP]) == 0
    assert not home.artifacts.exists()


def lines(*records: dict[str, object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def run(home: Home, name: str, *threads: tuple[str, str], says: bool = True) -> Path:
    """A run folder with everything in it that may quote."""
    folder = artifacts.run_folder(home, name)
    (folder / "checkpoints" / "10").mkdir(parents=True)
    if says:
        artifacts.write_sources(folder, Sources.of(threads, [], as_of=artifacts.forgettings(home)))
    (folder / "checkpoints" / "10" / "adapter.safetensors").write_bytes(b"zebrafish")
    (folder / "lessons.jsonl").write_text(
        lines(*({"answer": f"zebrafish {key[1]}", "threads": [key]} for key in threads)), encoding="utf-8"
    )
    (folder / "metrics.jsonl").write_text(
        lines({"step": 1, "stage": "sft", "loss": 2.5, "sample": "zebrafish"}), encoding="utf-8"
    )
    (folder / "report.html").write_text("<p>zebrafish", encoding="utf-8")
    (folder / "plan.json").write_text('{"rank": 4}', encoding="utf-8")
    (folder / "state.json").write_text('{"run_id": "r1"}', encoding="utf-8")
    (folder / "verdict.json").write_text('{"decided": "keep"}', encoding="utf-8")
    return folder


def test_a_run_loses_the_lessons_of_what_is_forgotten_its_weights_and_its_report(home):
    folder, other = run(home, "r1", LAMP, BOAT), run(home, "r2", BOAT)
    bank = artifacts.probes_folder(home) / "v1.jsonl"
    bank.parent.mkdir(parents=True)
    bank.write_text(lines({"prompt": "a", "threads": [LAMP]}, {"prompt": "b", "threads": [BOAT]}), encoding="utf-8")
    artifacts.mark_unclean(home, [LAMP])
    assert sorted(path.name for path in folder.iterdir()) == [
        "lessons.jsonl",
        "plan.json",
        "sources.json",
        "state.json",
        "unclean.json",
        "verdict.json",
    ]
    assert (folder / "lessons.jsonl").read_text(encoding="utf-8") == lines(
        {"answer": "zebrafish boat", "threads": [BOAT]}
    )
    assert json.loads(bank.read_text(encoding="utf-8"))["prompt"] == "b"
    assert (other / "report.html").exists()
    assert not artifacts.is_unclean(other)


def test_a_run_that_cannot_tell_what_it_read_loses_all_that_may_quote(home):
    folder = run(home, "r1", BOAT, says=False)
    artifacts.mark_unclean(home, [LAMP])
    assert artifacts.is_unclean(folder)
    assert not (folder / "checkpoints").exists()


def test_what_a_training_writes_after_the_forgetting_is_swept(home):
    folder = run(home, "r1", LAMP)
    artifacts.mark_unclean(home, [LAMP])
    (folder / "checkpoints").mkdir()
    (folder / "lessons.jsonl").write_text(
        lines({"threads": [LAMP]}, {"answer": "whose?", "threads": 3}), encoding="utf-8"
    )
    artifacts.sweep(home)
    assert not (folder / "checkpoints").exists()
    assert (folder / "lessons.jsonl").read_bytes() == b""


def test_forgetting_finishes_what_somebody_was_deleting_or_writing_when_he_died(home):
    cards, half = home.artifacts / ".gone-0123abcd", artifacts.probes_folder(home) / "v1" / ".2026-W07.1.jsonl.42.part"
    for folder in (cards, half.parent):
        folder.mkdir(parents=True)
    for path in (cards / "card.json", half, home.artifacts / ".study.jsonl.42.part"):
        path.write_text("zebrafish", encoding="utf-8")
    artifacts.mark_unclean(home, [LAMP])
    assert [path.name for path in home.artifacts.rglob("*") if path.is_file() and b"zebra" in path.read_bytes()] == []
    assert not cards.exists()


DIES = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from lmm_mcp import artifacts
from lmm_mcp.artifacts import Manifest, Sources
from lmm_mcp.domain.verdict import Promote
from lmm_mcp.paths import Home

home, what = Home(Path(sys.argv[1])), sys.argv[2]
calls = {name: getattr(os, name) for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "chmod", "open")}

def life(at_most):
    # Works until its at_most-th call that may change the disk, in a process of its own; the calls made, 0 for dead.
    def counted(real):
        def call(*given, **named):
            nonlocal at_most
            at_most -= 1
            if at_most < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **named)
        return call
    if (child := os.fork()) == 0:
        for name, real in calls.items():
            setattr(os, name, counted(real))
        Path.chmod = lambda self, mode: os.chmod(self, mode)
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def work():
    if what == "promote":
        artifacts.promote(home, "v0002")
    elif what == "rollback":
        artifacts.rollback(home)
    elif what == "unlearn":
        artifacts.mark_unclean(home, [("codex", "lamp")])
    else:
        folder = artifacts.draft(home)
        (folder / "adapter").mkdir()
        (folder / "adapter" / "w.safetensors").write_bytes(b"w" * 500)
        new = Manifest("b", "", "", "", "", {}, 1, "", "", {}, "", Promote(()))
        artifacts.commit(home, folder, new, None, Sources.of([("codex", "lamp")], [], as_of=artifacts.forgettings(home)))

def state():
    served = artifacts.served(home)
    there = artifacts.versions(home)
    assert not [each for each in there if isinstance(each, artifacts.Torn)], there
    assert all(artifacts.damage(each, thoroughly=True) is None for each in there)
    unclean = [each.name for each in there if each.unclean]
    return served and served.name, [each.name for each in there], unclean

steps = 0
while True:
    code = life(steps)
    print(code, *state(), sep="|")
    if code == 0:
        break
    assert code == -signal.SIGKILL, code
    steps += 1
"""


def lives(home: Home, what: str) -> list[list[str]]:
    """Do it with one life after the other, each dying one call later, until one survives: what holds after each."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", DIES, str(home.root), what, str(root)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = [line.split("|") for line in done.stdout.splitlines()]
    assert len(told) > 5, "it died at too few places to show anything"
    assert {line[0] for line in told[:-1]} == {str(-signal.SIGKILL)}
    assert told[-1][0] == "0"
    return told


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="dies in processes that are forked")


@needs_fork
def test_a_commit_that_dies_anywhere_leaves_what_was_there(home):
    artifacts.promote(home, trained(home, BOAT).name)
    told = lives(home, "commit")
    assert {line[1] for line in told} == {"v0001"}
    assert told[0][2] == "['v0001']"
    assert "v0002" in told[-1][2]


@needs_fork
def test_a_promotion_that_dies_anywhere_leaves_the_old_one_or_the_new_one_serving(home):
    for _ in range(2):
        trained(home, BOAT)
    artifacts.promote(home, "v0001")
    told = lives(home, "promote")
    assert [line[1] for line in told] == sorted(line[1] for line in told), "once it serves it goes on serving"
    assert {line[1] for line in told} == {"v0001", "v0002"}


@needs_fork
def test_a_rollback_that_dies_anywhere_leaves_a_version_serving(home):
    for _ in range(9):
        artifacts.promote(home, trained(home, BOAT).name)
    told = lives(home, "rollback")
    assert {line[1] for line in told} >= {"v0009", "v0008"}
    assert "None" not in {line[1] for line in told[:2]}


@needs_fork
def test_an_unlearning_that_dies_anywhere_serves_no_less_clean_than_before_and_the_next_completes_it(home):
    artifacts.promote(home, trained(home, BOAT).name)
    artifacts.promote(home, trained(home, LAMP).name)
    folder = run(home, "r1", LAMP)
    told = lives(home, "unlearn")
    assert [line[1] for line in told] == sorted((line[1] for line in told), reverse=True), "unclean stays unclean"
    assert told[-1][1:] == ["v0001", "['v0001', 'v0002']", "['v0002']"]
    assert not [path for path in folder.rglob("*") if path.is_file() and b"zebrafish" in path.read_bytes()]
