"""How things stand with a memory home: what it holds, how far reading is, and from where this caller asks."""

from collections.abc import Mapping
from dataclasses import dataclass

from lmm_mcp import children
from lmm_mcp.children import Progress
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.wording import counted, sized
from lmm_mcp.server.desk import NEVER_IMPORTED, Desk
from lmm_mcp.server.expand import moment

WHERE_TO_LOOK = (
    "`lmm agents --all` names the agents whose sessions are looked for, `lmm import PATH` reads what lies elsewhere, "
    "`lmm demo` shows invented ones"
)
"""What to do on a machine without sessions."""
BEGINNING = "has just begun; ask again in a few seconds"
_AT_IT = ("beginning", "importing")
_NUM_PROJECTS_shown = 8


@dataclass(frozen=True, slots=True)
class Status:
    """One look at a memory home."""

    home: str
    cwd_project: str | None
    """Key of the project that this caller asks; None = all."""
    num_chunks: int
    num_embedded: int
    by_agent: Mapping[str, int]
    """Chunks of each agent."""
    by_project: Mapping[str, int]
    num_sessions: int
    disk_bytes: int
    embedder: str
    """Name of the model for questions, '' where there is none."""
    vectors_of: str
    """Name of the model that made the stored vectors, '' where there are none."""
    no_embedder: str
    """Why questions are answered by words only, with the next step; '' where a model serves them."""
    num_unreadable: int
    is_paused: bool
    reading: Progress | None
    """What the ingest process last said about itself."""
    is_beginning: bool = False
    """Whether an ingest process was started that has not said anything yet."""
    alarms: tuple[str, ...] = ()
    """What threatens the memory, each with the next step."""
    memory_model: str = ""
    """Which one serves, and what was left undone; '' where nothing was ever trained."""
    next_vectors_of: str = ""
    """Name of the model that makes new vectors beside the stored ones, which serve until they are complete; '' for none."""
    num_embedded_next: int = 0
    """Passages that have theirs."""
    no_next_embedder: str = ""
    """Why the model that the settings name makes no vectors yet, with the next step; '' where nothing is in its way."""


def take(desk: Desk, *, is_beginning: bool = False) -> Status:
    """Look. Raises StoreError and ConfigError."""
    from lmm_mcp import alarms, limits, restarts, training
    from lmm_mcp.embedding import NoEmbedder, look, serving  # loads numpy, which the handshake must not wait for
    from lmm_mcp.model import standing

    store = desk.store()
    use = limits.disk_use(desk.home.root, desk.settings.limits)
    threats = alarms.of_disk(desk.home.root, desk.settings.limits, use)
    threats += alarms.of_memory(restarts.known(desk.home), desk.settings.limits)
    stats = store.stats() if store is not None else None
    if store is not None and stats is not None:
        threats += alarms.of_store(stats, store.trouble())
    model = standing.look(desk.home)
    made_by = (stats.embedder.name, stats.embedder.version) if stats and stats.embedder else ("", "")
    embedder = serving(desk.home, desk.settings.embedder, *made_by)  # to name it, it need not be opened
    wanted, words_only = look(desk.home, desk.settings.embedder), desk.by_words_only()
    return Status(
        home=str(desk.home.root),
        cwd_project=desk.asker().project,
        num_chunks=stats.num_chunks if stats else 0,
        num_embedded=stats.num_embedded if stats else 0,
        by_agent=dict(stats.by_agent) if stats else {},
        by_project=dict(stats.by_project) if stats else {},
        num_sessions=len({(row.thread.agent, row.thread.session_id) for row in desk.ledger.threads()}),
        disk_bytes=use.used_bytes,
        embedder="" if isinstance(embedder, NoEmbedder) else embedder.name,
        vectors_of=stats.embedder.name if stats and stats.embedder else "",
        no_embedder=words_only,
        num_unreadable=len(desk.ledger.unreadable()),
        is_paused=desk.home.paused.exists(),
        reading=children.progress(desk.home),
        is_beginning=is_beginning,
        alarms=tuple(each.told() for each in threats),
        memory_model=standing.told(
            model,
            is_training=bool(model.stopped_at) and training.is_busy(desk.home),
            wanted_sentences=desk.settings.model.max_sentences,
        ),
        next_vectors_of=stats.next_embedder.name if stats and stats.next_embedder else "",
        num_embedded_next=stats.num_embedded_next if stats else 0,
        no_next_embedder=f"{wanted.reason}; {wanted.next_step}"
        if isinstance(wanted, NoEmbedder) and not words_only
        else "",
    )


def lines(now: Status) -> list[str]:
    """The same for people and models, a fact on each line."""
    told = [f"memory home: {now.home} ({sized(now.disk_bytes)})"]
    if now.num_chunks:
        agents = ", ".join(f"{plain_name(agent)} {count:,}" for agent, count in _most(now.by_agent))
        told.append(
            f"remembered: {counted(now.num_sessions, 'session')}, {counted(now.num_chunks, 'passage')} ({agents})"
        )
        shown = _most(now.by_project)[:_NUM_PROJECTS_shown]
        rest = len(now.by_project) - len(shown)
        told.append(
            "projects: "
            + ", ".join(f"{plain_name(key) or '(none)'} {count:,}" for key, count in shown)
            + (f", and {rest} more" if rest else "")
        )
        told.append(
            f"embeddings: {now.num_embedded:,} of {now.num_chunks:,} passages"
            + (f" ({now.vectors_of})" if now.vectors_of else "")
        )
        if now.next_vectors_of:
            told.append(
                f"embedded anew: {now.num_embedded_next:,} of {now.num_chunks:,} passages ({now.next_vectors_of}); "
                "the others serve until all are"
            )
        if now.no_next_embedder:
            told.append(f"searched with {now.embedder}: {now.no_next_embedder}")
    else:
        told.append(f"remembered: {_nothing(now)}")
    if now.no_embedder:
        told.append(f"searched by words only: {now.no_embedder}")
    told.append(
        "reading: " + (BEGINNING if reading_word(now) == "beginning" else reading_line(now.reading, now.is_paused))
    )
    if now.memory_model:
        told.append(f"memory model: {now.memory_model}")
    told += [f"alarm: {each}" for each in now.alarms]
    if now.reading is not None and now.reading.is_running and now.reading.unwatched:
        told.append(f"looked at every second or two, since it cannot be watched: {plain_name(now.reading.unwatched)}")
    if now.num_unreadable:
        told.append(f"unreadable records: {now.num_unreadable:,} (`lmm doctor` lists them)")
    told.append(
        "you ask: " + (f"the project {plain_name(now.cwd_project)}" if now.cwd_project is not None else "all projects")
    )
    return told


def _nothing(now: Status) -> str:
    """Why nothing is remembered, and what to do about it, where that is not said by what the ingest process does."""
    if reading_word(now) in _AT_IT:
        return "nothing yet"
    has_looked = now.reading is not None and not now.reading.error and now.reading.phase != "importing"
    return f"nothing; no session was found that is to be remembered: {WHERE_TO_LOOK}" if has_looked else NEVER_IMPORTED


def reading_word(now: Status) -> str:
    """What the ingest process is doing, in one word of the stable API."""
    if now.is_paused:
        return "paused"
    if now.is_beginning:
        return "beginning"
    if now.reading is None:
        return "never"
    if now.reading.error:
        return "failed"
    if not now.reading.is_running:
        return "stopped"
    if now.reading.blocked:
        return "blocked"
    return now.reading.phase if now.reading.phase in ("importing", "embedding") else "up_to_date"


def reading_line(reading: Progress | None, is_paused: bool) -> str:
    """What the ingest process is doing, in one line."""
    if is_paused:
        return "paused (`lmm resume` goes on)"
    if reading is None:
        return "never ran (`lmm import` reads the sessions on this machine)"
    if reading.error:
        return f"stopped: {reading.error}"
    if not reading.is_running:
        return f"nothing is being read now; an agent that uses this memory starts it, and so does `lmm import`; last read at {moment(reading.updated_ms)} UTC"
    if reading.blocked:
        return f"waiting: {reading.blocked}"
    files = f"{reading.files_done:,} of {reading.files_total:,} files"
    match reading.phase:
        case "importing":
            return f"importing, {files} ({reading.bytes_done / 1e6:,.0f} of {reading.bytes_total / 1e6:,.0f} MB), newest first"
        case "embedding" if reading.to_embed_anew and not reading.to_embed:
            return f"embedding anew, {reading.to_embed_anew:,} passages to go; the vectors of before serve until then"
        case "embedding":
            return f"embedding, {reading.to_embed:,} passages to go; all of them are found by their words already"
        case "watching":
            return "up to date, watching for new sessions"
        case _:
            return "up to date"


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda one: (-one[1], one[0]))
