"""A memory model behind an OpenAI-compatible server on this machine: llama.cpp, Ollama, vLLM. No address but loopback.

Only the standard library: it knows no proxy from the environment and follows no redirect, so what is asked goes nowhere else.
The server's own template renders the prompt. It is asked to answer by its most probable words, and whatever it says goes
through the same grammar and the same checks as what our own process says.
"""

import http.client
import ipaddress
import json
import logging
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from lmm_mcp.errors import ModelError
from lmm_mcp.model.choosing import parse
from lmm_mcp.model.runtime import Chosen, FIRST_RETRY_s, LAST_RETRY_s

MAX_ANSWER_bytes = 1_000_000
MAX_CHOICE_tokens = 24

_log = logging.getLogger(__name__)


class LoopbackRuntime:
    """See the module. `address`: such as `http://127.0.0.1:8080/v1`. Raises ModelError where it is not on this machine.

    `model`: its name there; `adapter`: that of an adapter, which is asked in the model's place (vLLM serves it as a model).
    """

    def __init__(self, address: str, *, model: str = "", adapter: str = "") -> None:
        self._host, self._port, self._path = place_of(address)
        self._model = adapter or model
        self._num_failures = 0
        self._retry_at_s = 0.0

    @property
    def version(self) -> str:
        """The name of what answers."""
        return self._model or f"{self._host}:{self._port}"

    def choose(self, prompt: str, offered: Sequence[int], *, within_s: float) -> Chosen | None:
        """See `Runtime`. None, too, where the answer is none of those allowed."""
        text = self.write(prompt, max_new_tokens=MAX_CHOICE_tokens, within_s=within_s)
        chosen = None if text is None else parse(text.strip().rstrip("."), offered)
        return None if chosen is None else Chosen(chosen)

    def write(self, prompt: str, *, max_new_tokens: int, within_s: float) -> str | None:
        """See `Runtime`."""
        if within_s <= 0 or time.monotonic() < self._retry_at_s:
            return None
        try:
            text = self._completed(prompt, max_new_tokens, time.monotonic() + within_s)
        except TimeoutError:  # slow is not broken
            return None
        except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as problem:
            self._num_failures += 1
            pause_s = min(LAST_RETRY_s, FIRST_RETRY_s * 2 ** min(self._num_failures - 1, 10))
            self._retry_at_s = time.monotonic() + pause_s
            _log.warning(
                "the model server at %s:%d does not answer as it should (%s); it is asked again after %.0f s",
                self._host,
                self._port,
                problem or type(problem).__name__,
                pause_s,
            )
            return None
        self._num_failures = 0
        return text

    def close(self) -> None:
        """Nothing is held between requests."""

    def _completed(self, prompt: str, max_new_tokens: int, until_s: float) -> str:
        asked: dict[str, Any] = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "stream": False,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        if self._model:
            asked["model"] = self._model
        connection = http.client.HTTPConnection(self._host, self._port, timeout=max(0.01, until_s - time.monotonic()))
        try:
            body = json.dumps(asked).encode()
            connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            said = b""
            while piece := reply.read1(65536):
                said += piece
                if time.monotonic() > until_s:
                    raise TimeoutError
                if len(said) > MAX_ANSWER_bytes:
                    raise ValueError(f"its answer is longer than {MAX_ANSWER_bytes:,} bytes")
            if reply.status != 200:
                raise ValueError(f"it said {reply.status} {reply.reason}")
        finally:
            connection.close()
        return str(json.loads(said)["choices"][0]["message"]["content"] or "")


def place_of(address: str) -> tuple[str, int, str]:
    """Host, port and path of an address on this machine. Raises ModelError for any other, with the reason.

    >>> place_of("http://localhost:11434")
    ('localhost', 11434, '/v1/chat/completions')
    """
    try:
        parts = urlsplit(address.strip())
        host, port = parts.hostname or "", parts.port or 80
    except ValueError as problem:
        raise ModelError(
            f"model.server is {address!r}, which is no address ({problem}); write it as http://127.0.0.1:8080."
        ) from problem
    if parts.scheme != "http" or not host:
        raise ModelError(f"model.server is {address!r}; write it as http://127.0.0.1:8080.")
    if not _is_loopback(host):
        raise ModelError(
            f"model.server names {host}, and what is remembered leaves this machine for nobody; only 127.0.0.1, ::1 and localhost are asked."
        )
    path = parts.path.rstrip("/")
    if not path.endswith("/chat/completions"):
        path = f"{path}/chat/completions" if path else "/v1/chat/completions"
    return host, port, path


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
