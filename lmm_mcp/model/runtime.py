"""The engine's side of the memory model, without torch: what can be asked of one, and the child process that holds ours.

Nothing is started before the first question, and then in the background: until the model is there, there is no answer and
recall goes on without. Each request has a deadline; what comes later is thrown away. A child that is stuck is killed, one that
failed is started again ever more rarely. Which version is served is looked up before each request, so a new one is taken up
between two of them.
"""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from lmm_mcp import children
from lmm_mcp.domain.writing import Offered
from lmm_mcp.paths import Home

LOAD_s = 300.0
"""How long loading may take before the child counts as stuck."""
STUCK_s = 20.0
"""How long after its deadline an answer may be out before the child counts as stuck: a long prompt is read in one piece."""
FIRST_RETRY_s = 5.0
LAST_RETRY_s = 600.0
MAX_WAITING_bytes = 60_000
"""Less than a pipe holds: whoever asks must never be held up by a child that does not listen."""
STDERR_LOG = "model-stderr.log"
"""What the last child wrote to standard error: why it failed, above all."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which lines a model named."""

    numbers: tuple[int, ...]
    """Best first; () where it says that none answers."""
    confidence: float | None = None
    """Probability of how its answer begins; None where the runtime does not tell."""


class Runtime(Protocol):
    """Something that holds a memory model. Never raises: None where there is no answer in time."""

    @property
    def version(self) -> str:
        """What answers, '' for nothing."""
        ...

    def choose(self, prompt: str, offered: Sequence[int], *, within_s: float) -> Chosen | None:
        """Which of the offered lines answer."""
        ...

    def write(self, prompt: str, *, max_new_tokens: int, within_s: float, copied: Sequence[Offered] = ()) -> str | None:
        """What the model says to a prompt. `copied`: lines of which all that it tells is to be copied, where it can be held to that."""
        ...

    def close(self) -> None:
        """Let go of everything; the next request begins anew."""
        ...


@dataclass(frozen=True, slots=True)
class Weights:
    """What a child is to load."""

    version: str
    base: str
    """A folder, or a name."""
    adapter: Path | None
    bases: Path | None = None
    """Folder of the bases that the project made, where `base` may be one of their names."""


class ChildRuntime:
    """See the module. `served`: what is to answer now, None for nothing; asked before each request, so it must be cheap."""

    def __init__(
        self,
        home: Home,
        env: Mapping[str, str],
        served: Callable[[], Weights | None],
        *,
        memory_mb: int = 0,
        idle_s: float = 600.0,
        num_threads: int = 0,
    ) -> None:
        self._home, self._env, self._served = home, env, served
        options = {"--memory-mb": memory_mb, "--idle-s": idle_s, "--threads": num_threads}
        self._options = [str(part) for pair in options.items() for part in pair]
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._wanted: Weights | None = None
        self._num_failures = 0
        self._retry_at_s = 0.0

    @property
    def version(self) -> str:
        """What would answer now, '' for nothing."""
        found = self._served()
        return found.version if found else ""

    @property
    def pid(self) -> int:
        """Process id of the child, 0 where there is none."""
        child = self._child
        return child.pid if child is not None and child.is_alive else 0

    @property
    def trouble(self) -> str:
        """Why the last child failed, '' where it did not."""
        child = self._child
        return child.trouble if child is not None else ""

    def choose(self, prompt: str, offered: Sequence[int], *, within_s: float) -> Chosen | None:
        """See `Runtime`."""
        said = self._ask({"do": "choose", "prompt": prompt, "offered": list(offered)}, within_s)
        chosen = said.get("chosen")
        if not isinstance(chosen, list) or not set(chosen) <= set(offered):
            return None
        return Chosen(tuple(chosen), float(said.get("confidence", 0.0)))

    def write(self, prompt: str, *, max_new_tokens: int, within_s: float, copied: Sequence[Offered] = ()) -> str | None:
        """See `Runtime`."""
        request = {"do": "write", "prompt": prompt, "max_new_tokens": max_new_tokens, "copied": [*map(asdict, copied)]}
        said = self._ask(request, within_s)
        text = said.get("text")
        return text if isinstance(text, str) else None

    def prepare(self, *, within_s: float) -> bool:
        """Wait until the served version is loaded; whether it is."""
        return self._ready(time.monotonic() + within_s) is not None

    def close(self) -> None:
        """See `Runtime`."""
        with self._lock:
            self._drop()
            self._wanted = None

    def _ask(self, request: dict[str, Any], within_s: float) -> dict[str, Any]:
        until_s = time.monotonic() + within_s
        child = self._ready(until_s)
        if child is None:
            return {}
        left_s = until_s - time.monotonic()
        said = child.ask({**request, "until_s": time.time() + left_s}, left_s)
        if "error" in said:
            _log.warning("the memory model failed: %s", said["error"])
        return said

    def _ready(self, until_s: float) -> "_Child | None":
        """A child that has loaded what is served; one is started where there is none. None where that takes too long."""
        wanted = self._served()
        with self._lock:
            child = self._child
            if child is not None and child.is_stuck:
                child.kill()
                self._failed("it did not answer any more and was ended")
                child = self._child = None
            if child is not None and not child.is_alive:
                if child.failed:
                    self._failed(child.trouble)
                child = self._child = None
            if wanted is None:
                self._drop()
                return None
            if child is None:
                if time.monotonic() < self._retry_at_s:
                    return None
                try:
                    child = self._child = _Child(self._home, self._env, self._options)
                except OSError as problem:
                    self._failed(f"it cannot be started: {problem}")
                    return None
                self._wanted = None
            if self._wanted != wanted:
                self._wanted = wanted if child.load(wanted) else None
        if not child.wait_until_loaded(max(0.0, until_s - time.monotonic())):
            if child.load_error:
                with self._lock:
                    if self._child is child:
                        self._drop()
                        self._failed(child.load_error)
            return None
        self._num_failures = 0
        return child

    def _failed(self, why: str) -> None:
        self._num_failures += 1
        pause_s = min(LAST_RETRY_s, FIRST_RETRY_s * 2 ** min(self._num_failures - 1, 10))
        self._retry_at_s = time.monotonic() + pause_s
        _log.warning("the memory model: %s; it is tried again after %.0f s", why, pause_s)

    def _drop(self) -> None:
        if self._child is not None:
            self._child.leave()
            self._child = None


class _Child:
    """One process. Requests go out in order, one thread reads what comes back."""

    def __init__(self, home: Home, env: Mapping[str, str], options: Sequence[str]) -> None:
        # -P: the working directory of an agent is a stranger's repository, and a folder in it must not be run.
        command = [sys.executable, "-P", *children.mark_of(home), "-m", "lmm_mcp.model", *options]
        ours = {**env, "LMM_HOME": str(home.root), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        with _complaints(home) as complaints:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=ours,
                cwd=home.root,
                start_new_session=True,  # Ctrl-C in our terminal is ours to answer
            )
        self._lock = threading.Lock()
        self._answers: dict[int, dict[str, Any]] = {}
        self._due_s: dict[int, float] = {}
        self._sizes: dict[int, int] = {}
        self._changed = threading.Condition(self._lock)
        self._next_id = 0
        self._loading: int | None = None
        self._is_closed = False
        self.load_error = ""
        self._was_let_go = False
        threading.Thread(target=self._read, name="memory-model", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None and not self._is_closed

    @property
    def failed(self) -> bool:
        """Whether it ended by itself and not because nobody needed it."""
        with suppress(subprocess.TimeoutExpired):  # its output has closed: it is about to be gone
            self._process.wait(1.0)
        return not self._was_let_go and self._process.returncode != 0

    @property
    def trouble(self) -> str:
        code = self._process.poll()
        return "" if code in (None, 0) else f"its process ended with code {code}; see {STDERR_LOG} among the logs"

    @property
    def is_stuck(self) -> bool:
        """Whether an answer is out that should have come long ago."""
        with self._lock:
            return any(time.monotonic() > due_s for due_s in self._due_s.values())

    def load(self, weights: Weights) -> bool:
        """Begin to load; what is asked later waits for it. Whether it was begun."""
        self.load_error = ""
        self._loading = self._send(
            {
                "do": "load",
                "base": weights.base,
                "bases": str(weights.bases or ""),
                "adapter": str(weights.adapter or ""),
            },
            LOAD_s,
        )
        return self._loading is not None

    def wait_until_loaded(self, timeout_s: float) -> bool:
        with self._changed:
            loading = self._loading
            if loading is None:
                return False
            self._changed.wait_for(lambda: loading in self._answers or self._is_closed, timeout_s)
            said = self._answers.get(loading, {})
            self.load_error = str(said.get("error", ""))
            return bool(said.get("ok")) and not self._is_closed

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Its answer, empty where none came in time."""
        id_ = self._send(request, timeout_s + STUCK_s)
        if id_ is None:
            return {}
        with self._changed:
            self._changed.wait_for(lambda: id_ in self._answers or self._is_closed, max(0.0, timeout_s))
            return self._answers.pop(id_, {})

    def leave(self) -> None:
        """Let it go: it leaves when its input closes."""
        self._was_let_go = True
        with suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        threading.Thread(target=self._bury, daemon=True).start()

    def kill(self) -> None:
        """End it now."""
        self._was_let_go = True
        self._process.kill()
        self._process.wait()

    def _bury(self) -> None:
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()

    def _send(self, request: dict[str, Any], due_s: float) -> int | None:
        """Number of a request that is on its way; None where too many are waiting already, or it has ended."""
        with self._lock:
            line = json.dumps({"id": self._next_id + 1, **request}).encode() + b"\n"
            waiting = sum(self._sizes[each] for each in self._due_s)
            if self._is_closed or waiting + len(line) > MAX_WAITING_bytes:
                return None
            self._next_id += 1
            self._sizes[self._next_id] = len(line)
            self._due_s[self._next_id] = time.monotonic() + due_s
            try:
                assert self._process.stdin is not None
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except (OSError, ValueError):  # it has ended, or was let go
                self._is_closed = True
                self._changed.notify_all()
            return self._next_id

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError, TypeError, KeyError):
                said = json.loads(line)
                with self._changed:
                    # What nobody waits for any more is kept until as many newer ones came: few, and small.
                    self._answers[said["id"]] = said
                    self._due_s.pop(said["id"], None)
                    self._sizes.pop(said["id"], None)
                    for old in [each for each in self._answers if each < said["id"] - 8 and each != self._loading]:
                        del self._answers[old]
                    self._changed.notify_all()
        with self._changed:
            self._is_closed = True
            self._due_s.clear()
            self._changed.notify_all()
        with suppress(OSError):  # what it was not told any more
            if self._process.stdin is not None:
                self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _complaints(home: Home) -> IO[bytes]:
    try:
        descriptor = os.open(home.logs / STDERR_LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        return os.fdopen(descriptor, "wb")
    except OSError:
        return Path(os.devnull).open("wb")
