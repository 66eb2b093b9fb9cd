"""`lmm bench locomo`, `locomo-plus`, `longmemeval`: public suites of long talks, in a memory made of nothing else."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmm_mcp import children, config
from lmm_mcp.cli import conditions, following, measuring, terminal
from lmm_mcp.domain.wording import counted
from lmm_mcp.errors import BadInput, StoreError
from lmm_mcp.paths import Home
from lmm_mcp.server.desk import Desk

if TYPE_CHECKING:
    from lmm_mcp.evaluation.conversations import Rank, Suite

CONVERSATIONS = "conversations.jsonl"
"""In a memory home of ours: what it was made of."""
ALWAYS_ANSWERS = "confidence"
"""A part of recall that is always left out here: silence ranks nothing."""

_PATH = typer.Argument(metavar="FILE", exists=True, dir_okay=False)
_RESULTS = typer.Option(dir_okay=False, help="Where to write the run, to compare it with others.", show_default=False)
_HOME = typer.Option(
    file_okay=False, help="A folder that keeps the memory made of the talks for the next time.", show_default=False
)
_ARM = typer.Option(help="What ranks: `recall`, or to hold against it bm25, vectors, fusion.")
_WITHOUT = typer.Option(help="A part of recall to leave out; may be given several times.")
_POOLED = typer.Option("--pooled", help="Search all talks, not only the one that is asked about.")
_LIMIT = typer.Option(min=1, help="Ask only so many questions, spread evenly over all.", show_default=False)


def register(group: typer.Typer) -> None:
    """Add the commands of this file."""
    group.command("locomo")(locomo)
    group.command("locomo-plus")(locomo_plus)
    group.command("longmemeval")(longmemeval)


def locomo(
    path: Annotated[Path, _PATH],
    results: Annotated[Path | None, _RESULTS] = None,
    home: Annotated[Path | None, _HOME] = None,
    arm: Annotated[str, _ARM] = "recall",
    without: Annotated[list[str] | None, _WITHOUT] = None,
    pooled: Annotated[bool, _POOLED] = False,
    limit: Annotated[int | None, _LIMIT] = None,
) -> None:
    """Measure how many of the turns that answer LoCoMo's questions are found, among the first 5, 10 and 20.

    [dim]lmm bench locomo locomo10.json --home ~/locomo-memory --results recall.run.json[/]
    """
    from lmm_mcp.evaluation import locomo as shape

    _measure(shape.read(path).sampled(limit), [path], results, home, arm, without, pooled=pooled)


def locomo_plus(
    path: Annotated[Path, _PATH],
    talks: Annotated[
        Path | None,
        typer.Option("--locomo", help="LoCoMo's file. Default: `locomo10.json` beside FILE.", show_default=False),
    ] = None,
    results: Annotated[Path | None, _RESULTS] = None,
    home: Annotated[Path | None, _HOME] = None,
    arm: Annotated[str, _ARM] = "recall",
    without: Annotated[list[str] | None, _WITHOUT] = None,
    limit: Annotated[int | None, _LIMIT] = None,
) -> None:
    """Measure whether a remark is found by what somebody says later, without a word in common.

    [dim]lmm bench locomo-plus locomo_plus.json --locomo locomo10.json --home ~/plus-memory[/]
    """
    from lmm_mcp.evaluation import locomo_plus as shape

    files = [path, talks or path.with_name("locomo10.json")]
    _measure(shape.read(*files).sampled(limit), files, results, home, arm, without)


def longmemeval(
    path: Annotated[Path, _PATH],
    results: Annotated[Path | None, _RESULTS] = None,
    home: Annotated[Path | None, _HOME] = None,
    arm: Annotated[str, _ARM] = "recall",
    without: Annotated[list[str] | None, _WITHOUT] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Read and ask only so many, spread evenly: to read all takes hours."),
    ] = None,
) -> None:
    """Measure whether the sessions and turns that answer LongMemEval's questions are found: any of them, and all.

    [dim]lmm bench longmemeval longmemeval_s.json --limit 50[/]
    """
    from lmm_mcp.evaluation import longmemeval as shape

    _measure(shape.read(path, limit), [path], results, home, arm, without)


def _measure(
    suite: "Suite",
    files: Sequence[Path],
    results: Path | None,
    kept: Path | None,
    arm: str,
    without: Sequence[str] | None,
    *,
    pooled: bool = False,
) -> None:
    from lmm_mcp.evaluation import conversations, runs

    if arm not in conversations.ARMS:
        raise BadInput(f"there is no arm {arm!r}; write {', '.join(conversations.ARMS)}.")
    measuring.check_before(results, without or ())
    env = {name: value for name, value in os.environ.items() if not name.startswith("LMM_SESSIONS_")}
    env[config.variable("embedder.name")] = config.load(terminal.home().config, env).embedder.name
    left_out = sorted({*(without or ()), ALWAYS_ANSWERS})
    with _memory_of(suite, kept, env) as home:
        desk = Desk(home, env)
        if told := desk.by_words_only():
            terminal.aside(f"by words only: {told}")
        num_asked = len(suite.questions)
        with typer.progressbar(length=num_asked, label="asking", file=sys.stderr) as bar:
            rows = []
            for row in conversations.run(suite, _rank(desk, arm, left_out), pooled=pooled):
                rows.append(row)
                bar.update(1)
        about = conditions.of(desk, files, without=left_out, pooled=pooled)
    run = runs.Run(suite.name, arm, about, tuple(rows))
    if results is not None:
        runs.save(run, results)
    for line in measuring.table_of({arm: run}, by_group=True):
        terminal.say_whole(line)
    for reason, number in suite.left_out.items():
        terminal.say(f"left out: {counted(number, 'question')}, since {reason}")
    if results is not None:
        terminal.aside(f"run: {results}")


def _rank(desk: Desk, arm: str, without: Sequence[str]) -> "Rank":
    from lmm_mcp.evaluation.conversations import by_passages, by_recall

    recaller, store = desk.holdings.recaller(without), desk.store()
    if recaller is None or store is None:
        raise StoreError("nothing of the talks could be remembered; the memory's `logs/ingest.log` tells why.")
    return by_recall(recaller) if arm == "recall" else by_passages(arm, store, desk.ready_embedder())


@contextmanager
def _memory_of(suite: "Suite", kept: Path | None, env: Mapping[str, str]) -> Iterator[Home]:
    """Give a memory home that has read the talks and nothing else; thrown away afterwards unless it is to be kept."""
    if kept is not None:
        root = kept.expanduser().absolute()
        if root.exists() and not (root / CONVERSATIONS).exists() and any(_is_foreign(each) for each in root.iterdir()):
            raise BadInput(f"{root} holds other things; name an empty folder, or one that does not exist yet.")
        yield _filled(Home(root), suite, env)
        return
    with tempfile.TemporaryDirectory(prefix="lmm-bench-", ignore_cleanup_errors=True) as folder:
        yield _filled(Home(Path(folder)), suite, env)


def _is_foreign(path: Path) -> bool:
    """Whether it is more than what is left of a first run that was cut off before it had written the talks."""
    return not (path.name.startswith(f".{CONVERSATIONS}.") and path.name.endswith(".part"))


def _filled(home: Home, suite: "Suite", env: Mapping[str, str]) -> Home:
    """Read the talks as any sessions are read; what was read before is not read again. Raises StoreError."""
    from lmm_mcp.evaluation import conversations

    home.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    conversations.write(suite.conversations, home.root / CONVERSATIONS)  # before all else: it marks the folder as ours
    _lend_model(home.ensure(), env)
    child = children.start_ingest(home, env, stay=False, paths=[home.root / CONVERSATIONS], idle_priority=False)
    following.follow(home, child, is_enough=following.is_embedded)
    child.stop()
    num_there = sum(len(each.sessions) for each in suite.conversations)
    if (num_known := len(Desk(home, env).ledger.threads())) < num_there:
        raise StoreError(f"{num_known} of {num_there} sessions were read; {home.logs / 'ingest.log'} may tell why.")
    return home


def _lend_model(home: Home, env: Mapping[str, str]) -> None:
    """Let it have the user's own model, else make the bundled one ready; where there is neither, words must do."""
    from lmm_mcp import embedder_fetch, embedding

    name = embedding.full_name(config.load(home.config, env).embedder.name)
    if not isinstance(embedding.look_named(home, name), embedding.NoEmbedder) or name == embedding.NO_MODEL:
        return
    own = terminal.home()
    if not isinstance(embedding.look_named(own, name), embedding.NoEmbedder):
        home.models.mkdir(exist_ok=True)
        with suppress(OSError):  # no right to link (Windows): then it goes by words only, and says so
            embedding.folder_of(home, name).symlink_to(embedding.folder_of(own, name), target_is_directory=True)
    elif name == embedding.MINILM and embedder_fetch.bundle() is not None:
        embedder_fetch.install_bundled(home)
