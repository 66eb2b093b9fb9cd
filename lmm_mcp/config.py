"""Settings: defaults < the user's `config.toml` < environment < flags. Frozen, checked once, read at entry points only."""

import dataclasses
import itertools
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin

from lmm_mcp.domain import schedule
from lmm_mcp.domain.recall import PARTS, DEFAULT_BUDGET_tokens, MAX_BUDGET_tokens, MIN_BUDGET_tokens
from lmm_mcp.errors import ConfigError
from lmm_mcp.paths import expanded

MIN_MEMORY_mb = 600
"""An ingest process that has a model loaded and nothing else to do holds 400."""
PROJECT_FILE = ".lmm.toml"
ALLOWED_IN_PROJECT = frozenset({"recall.budget_tokens"})
"""A repository may set harmless things only: opening it must not redirect a model or a path."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Which session folders are read."""

    claude_code: tuple[str, ...] = ()
    """Further Claude Code configuration folders (each holding `projects/`), beside `CLAUDE_CONFIG_DIR` or `~/.claude`."""
    codex: tuple[str, ...] = ()
    """Further Codex homes (each holding `sessions/`), beside `CODEX_HOME` or `~/.codex`."""
    folders: tuple[str, ...] = ()
    """Further places of any agent's sessions, each as `agent=path`, such as `aider=~/work/shop`; `lmm agents` names the agents."""
    exclude_paths: tuple[str, ...] = ()
    """Working directories never to be remembered, with everything below them; `~` and `*` allowed."""
    exclude_remotes: tuple[str, ...] = ()
    """Git remotes never to be remembered, such as `github.com/acme/*`."""
    exclude_agents: tuple[str, ...] = ()
    """Agents never to be read, by the names that `lmm agents` shows: `claude-code`, `codex`, ..."""

    def __post_init__(self) -> None:
        for folder in self.folders:
            if not all(part.strip() for part in folder.partition("=")):
                raise ConfigError(f"sessions.folders holds {folder!r}; write agent=path, such as aider=~/work/shop.")

    def named_folders(self) -> tuple[tuple[str, Path], ...]:
        """Every place that the user named, with its agent."""
        pairs = [folder.split("=", 1) for folder in self.folders]
        pairs += [["claude-code", folder] for folder in self.claude_code]
        pairs += [["codex", folder] for folder in self.codex]
        return tuple((agent.strip(), expanded(folder.strip())) for agent, folder in pairs)


@dataclass(frozen=True, slots=True)
class Embedder:
    """Which model turns text into vectors."""

    name: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Any sentence-transformers model that was fetched, or `none` for a purely lexical memory."""
    num_threads: int = 0
    """Threads for bulk embedding; 0 = one for each core."""


@dataclass(frozen=True, slots=True)
class RecallSettings:
    """How briefs are made."""

    budget_tokens: int = DEFAULT_BUDGET_tokens
    """Budget of a brief where the call names none; a token is four characters."""
    without: tuple[str, ...] = ()
    """Parts of recall that are left out; `lmm bench parts` names them."""

    def __post_init__(self) -> None:
        for part in self.without:
            if part not in PARTS:
                raise ConfigError(
                    f"recall.without names {part!r}, which is no part of recall; write {', '.join(PARTS)}."
                )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the machine may be taken."""

    disk_mb: int = 20_000
    """Disk that the whole memory home may take, in MB; 0 = no limit. When it is reached no more sessions are read."""
    memory_mb: int = 3_000
    """Memory that the ingest process may hold, in MB; 0 = no limit. Beyond it the process is started anew."""


@dataclass(frozen=True, slots=True)
class Train:
    """How the memory model is trained."""

    preset: str = "auto"
    """Sizes that fit a machine: `cpu-tiny`, `8gb`, `12gb`, `24gb`, `80gb`, `mps`, or `auto` for what is found here."""
    base: str = ""
    """The model to start from, a folder or the name of one that is on this machine; empty for what the preset says."""
    processes: int = 1
    """How many processes of this machine train together, one on each GPU."""
    schedule: str = "off"
    """When to train without being asked, while `lmm serve` runs: `off`, `nightly`, `idle`, or `after N` new passages."""
    study: str = ""
    """What words lessons anew: `base`, or the address of a model server on this machine, such as `http://127.0.0.1:8080/v1`; empty for nothing."""
    study_model: str = ""
    """What that server calls the model; empty where it has only one."""

    def __post_init__(self) -> None:
        if schedule.parse(self.schedule) is None:
            raise ConfigError(f"train.schedule is {self.schedule!r}; write {schedule.FORMS}.")


@dataclass(frozen=True, slots=True)
class Lessons:
    """What facts and lessons are made of, beside the sessions."""

    repositories: tuple[str, ...] = ()
    """Folders of projects whose own files (manifests, README, names of public symbols) may be read; `*` for all that sessions name."""


@dataclass(frozen=True, slots=True)
class Model:
    """The trained memory model at work."""

    within_ms: int = 300
    """How long a brief may wait for the memory model, in milliseconds; what comes later is left out of it."""
    max_sentences: int = 0
    """Sentences of its own that the memory model may write into a brief, each checked against what it cites; 0 = it only chooses lines."""
    idle_minutes: int = 10
    """After so many minutes without a question the memory model's process ends; 0 = never."""
    cards: int = 12
    """Cards for each project that the memory model may write while nobody asks; 0 = none."""
    memory_mb: int = 0
    """Memory that the memory model's process may hold, in MB; 0 = no limit. Beyond it the process ends and briefs go on without."""
    server: str = ""
    """Address of an OpenAI-compatible server on this machine, such as `http://127.0.0.1:8080`, to be asked instead of a process of ours."""
    name: str = ""
    """Name of the model on that server."""
    adapter: str = ""
    """Name of an adapter on that server, asked in the model's place; one called as a version of ours (`v0003`) is asked only while nothing it was trained on was forgotten."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole tree."""

    sessions: Sessions = field(default_factory=Sessions)
    embedder: Embedder = field(default_factory=Embedder)
    recall: RecallSettings = field(default_factory=RecallSettings)
    limits: Limits = field(default_factory=Limits)
    train: Train = field(default_factory=Train)
    lessons: Lessons = field(default_factory=Lessons)
    model: Model = field(default_factory=Model)

    def __post_init__(self) -> None:
        if not MIN_BUDGET_tokens <= self.recall.budget_tokens <= MAX_BUDGET_tokens:
            raise ConfigError(
                f"recall.budget_tokens is {self.recall.budget_tokens}; it must lie between {MIN_BUDGET_tokens} and {MAX_BUDGET_tokens}."
            )
        if self.embedder.num_threads < 0:
            raise ConfigError(f"embedder.num_threads is {self.embedder.num_threads}; it must be 0 (all cores) or more.")
        if self.limits.disk_mb < 0:
            raise ConfigError(f"limits.disk_mb is {self.limits.disk_mb}; it must be 0 (no limit) or more.")
        if self.limits.memory_mb and self.limits.memory_mb < MIN_MEMORY_mb:
            raise ConfigError(
                f"limits.memory_mb is {self.limits.memory_mb}; it must be 0 (no limit) or at least {MIN_MEMORY_mb}."
            )
        numbers = (self.model.within_ms, self.model.max_sentences, self.model.idle_minutes, self.model.cards)
        if min(*numbers, self.model.memory_mb) < 0:
            raise ConfigError("a number of [model] is below 0; write 0 or more.")
        if not self.embedder.name.strip():
            raise ConfigError("embedder.name is empty; name a model, or `none` for a purely lexical memory.")


def load(config_file: Path, env: Mapping[str, str], *, project_dir: Path | None = None) -> Settings:
    """Read the settings that hold. Raises ConfigError that names the file or variable and the next step."""
    tree: dict[str, dict[str, Any]] = {}
    if project_dir is not None:
        _merge(tree, _read(project_dir / PROJECT_FILE), project_dir / PROJECT_FILE, allowed=ALLOWED_IN_PROJECT)
    _merge(tree, _read(config_file), config_file)
    for section in dataclasses.fields(Settings):
        for setting in dataclasses.fields(_section(section.name)):
            name = variable(f"{section.name}.{setting.name}")
            if name in env:
                tree.setdefault(section.name, {})[setting.name] = _from_text(env[name], setting.type, name)
    return Settings(**{name: _section(name)(**values) for name, values in tree.items()})


def stamp(config_file: Path) -> tuple[int, int] | None:
    """What changes when the user's settings are written; None where there are none."""
    try:
        found = config_file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def names() -> dict[str, str]:
    """Every setting's dotted name and type, in order."""
    return {
        f"{section.name}.{setting.name}": str(getattr(setting.type, "__name__", setting.type))
        if get_origin(setting.type) is None
        else "list of text"
        for section in dataclasses.fields(Settings)
        for setting in dataclasses.fields(_section(section.name))
    }


def variable(name: str) -> str:
    """The environment variable that sets the setting of this dotted name.

    >>> variable("recall.budget_tokens")
    'LMM_RECALL_BUDGET_TOKENS'
    """
    return f"LMM_{name.replace('.', '_')}".upper()


def meanings() -> dict[str, str]:
    """What every setting means: the text below its field, as it stands in this file."""
    import ast  # only `lmm config` asks for this

    found: dict[str, str] = {}
    sections = {kind.__name__: name for name, kind in _sections().items()}
    for node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in sections:
            for setting, text in itertools.pairwise(node.body):
                if isinstance(setting, ast.AnnAssign) and isinstance(text, ast.Expr):
                    name = f"{sections[node.name]}.{ast.unparse(setting.target)}"
                    found[name] = " ".join(ast.literal_eval(text.value).split())
    return found


def parse(name: str, text: str) -> Any:
    """Turn what a user typed for setting `name` into its value. Raises ConfigError for an unknown name or a bad value."""
    section, _, setting = name.partition(".")
    for known in dataclasses.fields(_section(section)) if section in _sections() else ():
        if known.name == setting:
            return _from_text(text, known.type, name)
    raise ConfigError(f"there is no setting {name!r}; `lmm config` lists them all.")


def _sections() -> dict[str, Any]:
    return {
        "sessions": Sessions,
        "embedder": Embedder,
        "recall": RecallSettings,
        "limits": Limits,
        "train": Train,
        "model": Model,
        "lessons": Lessons,
    }


def _section(name: str) -> Any:
    return _sections()[name]


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{path} is not valid TOML: {problem}. Mend that line or move the file away.") from problem
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{path} cannot be read: {problem}.") from problem


def _merge(
    tree: dict[str, dict[str, Any]], found: dict[str, Any], source: Path, *, allowed: frozenset[str] | None = None
) -> None:
    for section, values in found.items():
        if section not in _sections() or not isinstance(values, dict):
            raise ConfigError(f"{source}: there is no section [{section}]; `lmm config` lists what there is.")
        known = {f.name: f.type for f in dataclasses.fields(_section(section))}
        for name, value in values.items():
            dotted = f"{section}.{name}"
            if name not in known:
                raise ConfigError(f"{source}: there is no setting {dotted}; `lmm config` lists what there is.")
            if allowed is not None and dotted not in allowed:
                raise ConfigError(
                    f"{source}: a project's own file may not set {dotted}, only {', '.join(sorted(allowed))}. Set it in your own config.toml."
                )
            tree.setdefault(section, {})[name] = _checked(value, known[name], f"{source}: {dotted}")


def _checked(value: Any, kind: Any, where: str) -> Any:
    if get_origin(kind) is tuple:
        if isinstance(value, list) and all(isinstance(item, get_args(kind)[0]) for item in value):
            return tuple(value)
        raise ConfigError(f'{where} must be a list of text, such as ["~/work"].')
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where} is {value!r}; it must be {'a whole number' if kind is int else 'text'}.")


def _from_text(text: str, kind: Any, where: str) -> Any:
    if get_origin(kind) is tuple:
        return tuple(part for part in text.split(os.pathsep) if part)
    if kind is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"{where} is {text!r}; it must be a whole number.") from None
    return text
