"""Where everything lies under the memory home, `LMM_HOME` (default `~/.lmm`). Readable by the user alone."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmm_mcp.errors import HomeError


@dataclass(frozen=True, slots=True)
class Home:
    """One memory home. Its properties only name paths; `ensure` makes the folders."""

    root: Path

    @property
    def store(self) -> Path:
        """LanceDB tables."""
        return self.root / "store"

    @property
    def ledger(self) -> Path:
        """SQLite file: what was read how far, ids ever given, project aliases, tombstones."""
        return self.root / "ledger.sqlite"

    @property
    def facts(self) -> Path:
        """SQLite file: what was derived from archived sessions (facts, salience); it can be made again."""
        return self.root / "facts.sqlite"

    @property
    def archive(self) -> Path:
        """The raw sessions: redacted, compressed, the truth everything else can be rebuilt from."""
        return self.root / "archive"

    @property
    def notes(self) -> Path:
        """Inbox of `remember`: JSON-lines files with a reader like every agent's."""
        return self.root / "notes"

    @property
    def artifacts(self) -> Path:
        """Trained candidates and the pointer to the current one."""
        return self.root / "artifacts"

    @property
    def models(self) -> Path:
        """Embedders made ready to serve: one folder each with `model.onnx`, `tokenizer.json`, `embedder.json`."""
        return self.root / "models"

    @property
    def logs(self) -> Path:
        """Log files; they name files and counts, never session text."""
        return self.root / "logs"

    @property
    def copies(self) -> Path:
        """Where databases are copied to that cannot be read in place, for as long as that takes; swept by the ingest process."""
        return self.root / "copies"

    @property
    def write_lock(self) -> Path:
        """Held by the one ingest process; released by the operating system when it ends, however it ends."""
        return self.root / "locks" / "ingest.lock"

    @property
    def engine_lock(self) -> Path:
        """Held by the one engine for life, as `write_lock` is by the ingest process."""
        return self.root / "locks" / "engine.lock"

    @property
    def engine_start_lock(self) -> Path:
        """Held by whoever starts an engine until that one answers, so that many who want one start one."""
        return self.root / "locks" / "engine-start.lock"

    @property
    def door(self) -> Path:
        """JSON written by the engine: where it can be reached, and which process it is. Readable by the user alone."""
        return self.root / "locks" / "engine.json"

    @property
    def handover(self) -> Path:
        """Folder where a second ingest process leaves the paths it was asked to read for the one that holds the lock."""
        return self.root / "locks" / "handover"

    @property
    def progress(self) -> Path:
        """JSON written by the ingest process about how far it is; read by `lmm status`."""
        return self.root / "locks" / "progress.json"

    @property
    def restarts(self) -> Path:
        """JSON written by an ingest process that leaves since it holds too much memory: when that was, and how much."""
        return self.root / "locks" / "restarts.json"

    @property
    def paused(self) -> Path:
        """Exists while `lmm pause` holds: nothing is read or archived."""
        return self.root / "paused"

    @property
    def http_token(self) -> Path:
        """What a client must show at `lmm serve --http`; readable by the user alone."""
        return self.root / "http-token"

    @property
    def config(self) -> Path:
        """The user's settings."""
        return self.root / "config.toml"

    def ensure(self) -> "Home":
        """Make the folders, mode 0700. Raises HomeError with the next step where that cannot be done."""
        try:
            for folder in (self.root, self.archive, self.notes, self.logs, self.write_lock.parent, self.handover):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if os.name == "posix" and self.root.stat().st_mode & 0o077:
                self.root.chmod(0o700)
        except FileExistsError as problem:
            raise HomeError(
                f"{problem.filename} is in the way: a file where a folder is needed. Move it or set LMM_HOME elsewhere."
            ) from problem
        except OSError as problem:
            raise HomeError(
                f"cannot use the memory home {self.root}: {problem.strerror or problem}. Give this user the right to write there, or set LMM_HOME to a folder of yours."
            ) from problem
        return self


def home_of(env: Mapping[str, str]) -> Home:
    """Find the memory home: `LMM_HOME`, else `.lmm` in the user's home folder. Raises HomeError where neither can be told."""
    named = env.get("LMM_HOME", "").strip()
    try:
        return Home(Path(named).expanduser().absolute() if named else user_home(env) / ".lmm")
    except (OSError, RuntimeError) as problem:  # a folder that is gone, a user that is not known
        raise HomeError(
            f"the memory home {named or '~/.lmm'} cannot be found: {str(problem).rstrip('.')}. Set LMM_HOME to the full path of a folder of yours."
        ) from problem


def user_home(env: Mapping[str, str]) -> Path:
    """Find the user's home folder as the environment names it."""
    return Path(env.get("HOME") or env.get("USERPROFILE") or Path.home())


def expanded(path: str) -> Path:
    """The path with `~` made the home folder it stands for; as it is where this machine does not know that user.

    >>> expanded("~nobody-of-that-name/work")
    PosixPath('~nobody-of-that-name/work')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
