"""Commands that bring sessions in: start, import, demo, pause, resume."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmm_mcp import children, samples
from lmm_mcp.children import Progress
from lmm_mcp.cli import following, terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.domain.wording import counted, sized
from lmm_mcp.errors import BadInput
from lmm_mcp.paths import Home
from lmm_mcp.server import status

if TYPE_CHECKING:
    from lmm_mcp.store.ledger import Ledger

PANEL = "Read"
_WHAT_TO_NAME = (
    "Name session files, databases or exports of an agent that is known (`lmm agents --all`), or folders that hold them, "
    "or name nothing to read all that can be found."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    from lmm_mcp.cli.starting import start  # which itself needs this file

    app.command("start", rich_help_panel=PANEL)(start)
    app.command("import", rich_help_panel=PANEL)(import_)
    app.command("demo", rich_help_panel=PANEL)(demo)
    app.command("pause", rich_help_panel=PANEL)(pause)
    app.command("resume", rich_help_panel=PANEL)(resume)


def import_(
    paths: Annotated[
        list[str] | None,  # a Path would make the working directory of an empty text
        typer.Argument(
            metavar="[PATH...]", help="Session files or folders. Default: all that can be found.", show_default=False
        ),
    ] = None,
    words_only: Annotated[
        bool, typer.Option("--words-only", help="Do not wait for the embeddings; the next `lmm mcp` goes on with them.")
    ] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Read the sessions on this machine, newest first.

    What was read before is not read again.

    [dim]lmm import[/]

    [dim]lmm import ~/backup/.codex/sessions[/]
    """
    home = terminal.home()
    named = [_checked(path) for path in paths or ()]
    if home.paused.exists():
        raise BadInput("reading is paused. `lmm resume` first.")
    child = children.start_ingest(home, os.environ, stay=False, paths=named, idle_priority=False)
    said = following.follow(home, child, is_enough=following.is_imported if words_only else following.is_embedded)
    child.stop()  # where it is done it has gone by itself
    ledger = terminal.desk(home).ledger
    if refused := _refused(ledger, named):
        raise BadInput(refused)
    if as_json:
        terminal.say_json(
            {"files": said.files_done, "bytes": said.bytes_done, "passages": said.chunks, "unreadable": said.unreadable}
        )
    else:
        terminal.say(
            summary(said)
            if said.pid == child.pid
            else f"the ingest process that runs already has read it: {counted(said.chunks, 'passage')} remembered"
        )
        if not said.files_total and not ledger.threads():
            terminal.say(status.WHERE_TO_LOOK)


def _checked(path: str) -> Path:
    """A path that may be read. Raises BadInput before anything is."""
    if not path.strip():
        raise BadInput(f"an empty path was given. {_WHAT_TO_NAME}")
    found = Path(path)
    if not found.exists():
        raise BadInput(f"{path} does not exist. {_WHAT_TO_NAME}")
    if not found.is_dir() and not found.is_file():
        raise BadInput(f"{path} is no session file. {_WHAT_TO_NAME}")
    return found


def _refused(ledger: "Ledger", named: Sequence[Path]) -> str:
    """What was said of named files that are none of a known agent; said once, it need not stand in every `lmm doctor`."""
    told = []
    problems = {row.path: row.problem for row in ledger.unreadable() if row.line == 0} if named else {}
    for path in map(Path.absolute, named):
        if str(path) in problems and ledger.source(path) is None:
            told.append(f"{path}: {problems[str(path)]}")
            ledger.clear_unreadable(path)
    return f"{'; '.join(told)}. {_WHAT_TO_NAME}" if told else ""


def summary(said: Progress) -> str:
    """What a reading brought, in one line."""
    if not said.files_total:
        return (
            f"nothing new to read ({counted(said.chunks, 'passage')} remembered)"
            if said.chunks
            else "no new sessions were found"
        )
    unread = (
        f", {counted(said.unreadable, 'record')} could not be read (`lmm doctor` lists them)" if said.unreadable else ""
    )
    return f"read {counted(said.files_done, 'file')} ({sized(said.bytes_done)}), {counted(said.chunks, 'passage')} remembered{unread}"


def demo(
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show what this does, on invented sessions in a memory of their own that is thrown away.

    [dim]lmm demo[/]
    """
    with memory_of_samples() as home:
        desk = terminal.desk(home)
        answers = [(question, desk.recall(question, project="*", budget_tokens=300)) for question in samples.QUESTIONS]
        if as_json:
            from lmm_mcp.server.shapes import recall_shape  # loads pydantic

            terminal.say_json(
                [{"question": question, **recall_shape(found).model_dump(mode="json")} for question, found in answers]
            )
            return
        for question, found in answers:
            terminal.say(f"> {question}")
            terminal.say_answer(found)
            terminal.say()
        terminal.say(
            "These sessions were invented and what was read of them is gone again, so their ids lead nowhere. "
            "`lmm start` does the same with your own."
        )


@contextmanager
def memory_of_samples() -> Iterator[Home]:
    """Give a memory home that has read the bundled samples and nothing else; it is thrown away afterwards."""
    with tempfile.TemporaryDirectory(prefix="lmm-demo-", ignore_cleanup_errors=True) as folder:
        home = Home(Path(folder)).ensure()
        with suppress(OSError):  # no right to link (Windows): then the demo goes by words only
            home.models.symlink_to(terminal.home().models, target_is_directory=True)
        child = children.start_ingest(home, samples.environment(os.environ, home.root), stay=False, idle_priority=False)
        following.follow(home, child, is_enough=following.is_embedded)
        child.stop()
        yield home


def pause() -> None:
    """Stop reading until `lmm resume`.

    What is remembered can still be recalled, and what you tell `lmm remember` is still kept and found.
    """
    terminal.home().paused.touch(mode=0o600)
    terminal.say("paused: no session is read until `lmm resume`")


def resume() -> None:
    """Go on reading after `lmm pause`.

    What was written meanwhile is read then, unless you remove it first.
    """
    terminal.home().paused.unlink(missing_ok=True)
    terminal.say("reading goes on with the next agent that starts, or with `lmm import`")
