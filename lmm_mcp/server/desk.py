"""One memory home as its callers see it: ask, read a passage, leave a note, see how things stand.

The MCP tools and the command line both speak to a `Desk` and so behave alike. A desk is one asker's: where it stands and
which settings hold there. What it opens belongs to `Holdings`, which many desks may share. Nothing is opened when one is made,
since an MCP handshake must not wait for tables and models.
Safe to call from several threads.
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lmm_mcp import children, config
from lmm_mcp.domain.project import NO_PROJECT, looks_like_home, normalise_path
from lmm_mcp.domain.quoting import plain_name
from lmm_mcp.domain.recall import NothingFound, Question, Recall, num_tokens
from lmm_mcp.errors import BadInput, ConfigError, MixedEmbeddings
from lmm_mcp.paths import Home
from lmm_mcp.server import asking, expand
from lmm_mcp.server.holdings import Holdings

if TYPE_CHECKING:  # each of these takes a tenth of a second or more to import; the holdings do it when needed
    from lmm_mcp.embedding import NoEmbedder, OnnxEmbedder
    from lmm_mcp.recall.pipeline import Recaller
    from lmm_mcp.store.archive import Archive
    from lmm_mcp.store.chunks import ChunkStore
    from lmm_mcp.store.ledger import Ledger
    from lmm_mcp.store.search import Scope

_T = TypeVar("_T")
NEVER_IMPORTED = "nothing has been imported yet"
_MIN_SESSION_chars = 8
"""Shorter beginnings of a session's id are mistakes, such as the mark of a citation."""


@dataclass(frozen=True, slots=True)
class Asker:
    """From where somebody asks."""

    project: str | None
    """Key of its project; None where it stands in no project and so asks all."""
    has_history: bool
    """Whether the memory knows anything of that project."""


class Desk:
    """See the module.

    `cwd`: the working directory of whoever asks, '' where there is none. `project`: the one that is asked where a call
    names none and there is no `cwd`. `env`: settings of the asker. `client`: a name of the asker's own, '' where its requests
    need not be told from those of others. `holdings`: what is shared with others who ask.
    """

    def __init__(
        self,
        home: Home,
        env: Mapping[str, str],
        *,
        cwd: str = "",
        project: str = "",
        client: str = "",
        holdings: Holdings | None = None,
    ) -> None:
        self.home = home
        self.cwd = cwd
        self.client = client
        self._project = project
        self._env = env
        self.holdings = holdings or Holdings(home, env)
        self._lock = threading.RLock()
        self._settings: config.Settings | None = None
        self._settings_stamp: tuple[int, int] | None = None
        self._bad_project_file = ""

    # What there is to ask

    def recall(self, query: Any, **limits: Any) -> Recall:
        """Answer a question with a brief. Raises BadInput, ConfigError and StoreError, each with the next step.

        `limits`: as `question` takes them.
        """
        asked, asker = self._asked(query, **limits)
        budget = asked.budget_tokens
        found: Recall
        if (answered := self._asked_of_now(lambda recaller: recaller.recall(asked))) is None:
            found = NothingFound(text=f"Nothing relevant is remembered: {NEVER_IMPORTED}.", num_searched=0)
        else:
            found = answered
        notes = (*found.notes, *self._notes(asker))
        if isinstance(found, NothingFound):
            # Who sees only the text should learn why nothing came, as far as the budget goes; a brief needs no such word.
            first = found.text if asker.has_history else "Nothing relevant is remembered."
            told = " ".join([first, *(f"Note: {note}." for note in notes)])
            found = replace(found, text=told if num_tokens(told) <= budget else found.text)
        return replace(found, notes=notes)

    def explain(self, query: Any, found: Recall, **limits: Any) -> list[str]:
        """How `found`, the answer to this question, came to be, in lines of text. Raises as `recall` does."""
        from lmm_mcp.recall import telling
        from lmm_mcp.recall.explain import explained

        asked = self.question(query, **limits)
        told = self._asked_of_now(
            lambda recaller: [
                *explained(asked, recaller.search(asked), found),
                *telling.explained(recaller.answer(asked)),
            ]
        )
        return told or []

    def question(self, query: Any, **limits: Any) -> Question:
        """What is asked, checked; `limits` are `project`, `since`, `until`, `agent` and `budget_tokens`. Raises BadInput."""
        return self._asked(query, **limits)[0]

    def _asked(
        self,
        query: Any,
        *,
        project: Any = None,
        since: Any = None,
        until: Any = None,
        agent: Any = None,
        budget_tokens: Any = None,
    ) -> tuple[Question, Asker]:
        asked_ms = now_ms()
        since_ms, until_ms = asking.checked_times(since, until, asked_ms)
        text = asking.checked_query(query)
        budget = asking.checked_budget(budget_tokens, self.settings.recall.budget_tokens)
        checked_agent = asking.checked_agent(agent, self.ledger.agents() if agent else ())
        asker = self.asker(project)
        return Question(text, asker.project, since_ms, until_ms, checked_agent, budget, asked_ms), asker

    def recaller(self) -> "Recaller | None":
        """What answers questions by the settings that hold here; None where nothing was ever imported."""
        return self.holdings.recaller(self.settings.recall.without)

    def _asked_of_now(self, ask: "Callable[[Recaller], _T]") -> "_T | None":
        """What the recaller of this moment says; None where nothing was ever imported."""
        if (recaller := self.recaller()) is None:
            return None
        try:
            return ask(recaller)
        except MixedEmbeddings:  # another model's vectors came to be served while the question was embedded
            return ask(now) if (now := self.recaller()) is not None else None

    def scope(self, *, until: Any = None) -> "Scope":
        """What a question asked from here may look at. Raises BadInput."""
        from lmm_mcp.store.search import Scope

        _, until_ms = asking.checked_times(None, until, now_ms())
        return Scope(project=self.asker().project, until_ms=until_ms)

    def passages(self, ids: Any, *, before: Any = None, after: Any = None) -> list[expand.Passage]:
        """Find the passages around citations. Raises BadInput for ids that mean nothing, ArchiveError for damage."""
        wanted = [ids] if isinstance(ids, str) else list(ids) if isinstance(ids, list | tuple) else []
        wanted = [text.strip("[]") for one in wanted if (text := asking.as_text(one))]
        if not wanted or len(wanted) > expand.MAX_IDS:
            raise BadInput(
                f"{len(wanted)} ids were given; pass 1 to {expand.MAX_IDS}, each the `id` of a citation as recall gave it."
            )
        num_before, num_after = (_checked_around(name, value) for name, value in (("before", before), ("after", after)))
        return expand.passages(self.ledger, self.archive, wanted, before=num_before, after=num_after)

    def about_file(self, path: Any, **limits: Any) -> Recall:
        """What to know before a file is touched. Raises as `recall` does; `limits`: as `question` takes them."""
        return self.recall(asking.question_about(path, self.cwd), **limits)

    def timeline(self, project: Any = None, *, since: Any = None, until: Any = None, budget_tokens: Any = None) -> str:
        """What was done in a project, session by session, fenced; '' where nothing was. Raises BadInput and StoreError."""
        from lmm_mcp.recall import timeline

        since_ms, until_ms = asking.checked_times(since, until, now_ms())
        budget = asking.checked_budget(budget_tokens, timeline.BUDGET_tokens)
        key = self.asker(project).project
        return timeline.write(
            self.ledger, self.archive, key, since_ms=since_ms, until_ms=until_ms, budget_tokens=budget
        )

    def opening(self, *, compacted: str = "", budget_tokens: Any = None) -> str:
        """The brief that opens a session here, fenced, '' where nothing is known; of one that was `compacted`, its id, with its own work.

        Raises BadInput and StoreError.
        """
        from lmm_mcp.recall import opening
        from lmm_mcp.store.projects import follow

        budget = asking.checked_budget(budget_tokens, opening.BUDGET_tokens)
        own = self.ledger.threads(session_id=compacted) if compacted else []
        key = follow(own[0].project, self.ledger.aliases()) if own else self.asker().project or NO_PROJECT
        return opening.write(
            self.ledger, self.archive, key, session_id=compacted, is_compacted=bool(own), budget_tokens=budget
        )

    def session(self, name: str) -> list[expand.Passage]:
        """All that is kept of the session with this id or beginning, sub-agents included; empty if there is none. Raises BadInput."""
        from lmm_mcp.store.forgetting import sessions_called

        if len(name) < _MIN_SESSION_chars:
            return []
        rows = self.ledger.threads()
        ids = sessions_called(name, [row.thread for row in rows])
        found = sorted((row for row in rows if row.thread.session_id in ids), key=lambda row: row.first_ms)
        return expand.whole_threads(self.archive, [row.thread for row in found])

    def remember(self, text: Any, *, project: Any = None, once: str = "") -> tuple[str, str]:
        """Keep a note; its id and the key of its project, '' for none. Raises BadInput. Recallable within 2 seconds.

        `once`: name of the request, by which its repetition is known.
        """
        from lmm_mcp import notes
        from lmm_mcp.exclusion import Exclusion

        key = self.asker(project).project or NO_PROJECT
        rules = Exclusion.of(config.load(self.home.config, self._env).sessions)
        stands_in = "" if project else self.cwd
        if rules.excludes("notes", key or self.cwd, key) or rules.excludes_place("notes", stands_in):
            raise BadInput(
                f"nothing is remembered here: your settings exclude {key or self.cwd} (`lmm config` shows them)."
            )
        if not isinstance(text, str):
            raise BadInput("the text is missing. Write one fact, decision or preference in a sentence or two.")
        return notes.remember(self.home, text, project=key, cwd=self.cwd, now_ms=now_ms(), once=once), key

    def asker(self, project: Any = None) -> Asker:
        """From which project this question comes: the one named, or that of the working directory. Raises BadInput."""
        name = asking.as_text(project) or self._project
        if name in asking.ALL_PROJECTS:
            return Asker(None, True)
        if name:
            return self._named(name, self.known_projects())
        key, is_place = self._project_at(self.cwd)
        if key and key in self.known_projects():
            return Asker(key, True)
        # A folder that is no repository and of which nothing is known belongs to no project: whoever stands there asks all.
        return Asker(key, False) if is_place else Asker(None, True)

    def known_projects(self) -> dict[str, int]:
        """Every project that has something to recall, with the number of its chunks."""
        store = self.store()
        return {} if store is None else store.projects()

    # What is open, and the settings that hold here

    @property
    def settings(self) -> config.Settings:
        """The settings that hold here. Raises ConfigError for the user's own; a bad file of a project is left aside."""
        with self._lock:
            stamp = config.stamp(self.home.config)
            if self._settings is None or stamp != self._settings_stamp:
                mine = config.load(self.home.config, self._env)
                self._bad_project_file = ""
                try:
                    mine = config.load(self.home.config, self._env, project_dir=_project_dir(self.cwd))
                except ConfigError as problem:  # opening somebody's repository must not take the memory away
                    self._bad_project_file = str(problem)
                self._settings, self._settings_stamp = mine, stamp
            return self._settings

    @property
    def ledger(self) -> "Ledger":
        """The ledger, made where there is none."""
        return self.holdings.ledger

    @property
    def archive(self) -> "Archive":
        """The archived sessions."""
        return self.holdings.archive

    def store(self) -> "ChunkStore | None":
        """The chunk store as of now; None where nothing was ever imported. Raises StoreError."""
        return self.holdings.store()

    def embedder(self) -> "OnnxEmbedder | NoEmbedder":
        """The model for questions, or why there is none."""
        return self.holdings.embedder()

    def ready_embedder(self) -> "OnnxEmbedder | None":
        """The model for questions if the store's vectors are its own."""
        from lmm_mcp.embedding import NoEmbedder

        model = self.embedder()
        return None if isinstance(model, NoEmbedder) or self.by_words_only() else model

    def look_for_model(self) -> None:
        """Look again at the next question: one was made ready."""
        self.holdings.look_for_model()

    def by_words_only(self) -> str:
        """Why questions are answered by their words only, with the next step; '' where a model serves them."""
        return self.holdings.by_words_only()

    def warm_up(self) -> None:
        """Open everything and run one question through it, so that the first real one is answered at once."""
        if (recaller := self.holdings.recaller()) is not None:
            recaller.recall(Question("what was decided"))

    # How projects are found

    def _project_at(self, folder: str) -> tuple[str, bool]:
        """The key of the project that a folder lies in, and whether it is a repository or lies below a known root."""
        from lmm_mcp.store.projects import resolve

        if not folder or looks_like_home(normalise_path(folder)):
            return NO_PROJECT, False
        found = resolve(folder, aliases=self.ledger.aliases(), roots=self.ledger.known_roots())
        return found.key, found.how != "cwd" and found.key != NO_PROJECT

    def _named(self, name: str, known: Mapping[str, int]) -> Asker:
        aliased = self.ledger.aliases().get(name, name)
        match asking.named_project(aliased, known):
            case str(key):
                return Asker(key, True)
            case asking.NoSuchProject() as none:
                if name.startswith(("/", "~", ".")) or "\\" in name or Path(name).is_absolute():
                    # The folder of a user there is none of, or what no system takes for a path, is no project either.
                    with suppress(RuntimeError, OSError, ValueError):
                        key, is_place = self._project_at(str(Path(name).expanduser().absolute()))
                        if key in known or is_place:
                            return Asker(key, key in known)
                raise BadInput(none.advice)

    def _notes(self, asker: Asker) -> list[str]:
        notes = []
        if not asker.has_history:
            notes.append(
                f'nothing was ever imported for the project {plain_name(asker.project or "")}; pass project="*" to ask all projects'
            )
        if self.home.paused.exists():
            notes.append("reading is paused since `lmm pause`: newer sessions are missing (`lmm resume`)")
        reading = children.progress(self.home)
        if reading is not None and reading.is_running and reading.blocked:
            notes.append(f"newer sessions may be missing: {reading.blocked}")
        if (
            reading is not None
            and reading.is_running
            and reading.phase == "importing"
            and reading.files_done < reading.files_total
        ):
            notes.append(
                f"still importing: {reading.files_done:,} of {reading.files_total:,} session files are read, newest first; ask again in a minute for the rest"
            )
        elif reading is not None and reading.is_running and reading.phase == "embedding" and reading.to_embed:
            notes.append(f"still embedding: {reading.to_embed:,} passages are found by their words only so far")
        if self._bad_project_file:
            notes.append(f"settings of this project are not obeyed: {self._bad_project_file}".rstrip("."))
        if self.store() is not None and (why := self.by_words_only()):
            notes.append(f"searched by words only: {why}")
        return notes


def _project_dir(cwd: str) -> Path | None:
    """The nearest folder at or above `cwd` with a project's own settings; not above its repository."""
    if not cwd:
        return None
    for folder in (Path(cwd), *Path(cwd).parents):
        if (folder / config.PROJECT_FILE).is_file():
            return folder
        if (folder / ".git").exists():
            return None
    return None


def _checked_around(name: str, value: Any) -> int:
    if value is None or value == "":
        return expand.DEFAULT_AROUND_events
    number = asking.whole_number(value)
    if number is None or not 0 <= number <= expand.MAX_AROUND_events:
        raise BadInput(
            f"{name} is {asking.echoed(value)}; it must be a whole number from 0 to {expand.MAX_AROUND_events}."
        )
    return number


def now_ms() -> int:
    """Milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
