"""A memory model behind an OpenAI-compatible server on this machine: llama.cpp, Ollama, vLLM. No address but loopback.

Only the standard library: it knows no proxy from the environment and follows no redirect, so what is asked goes nowhere else.
The server's own template renders the prompt. It is asked to answer by its most probable words, and whatever it says goes
through the same grammar and the same checks as what our own process says. llama.cpp, which tells its name with every reply,
is held to that grammar while it writes, from the second question on; others are only parsed afterwards.
"""

import http.client
import ipaddress
import json
import logging
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from lmm_mcp.domain.writing import MAX_CHOSEN, Offered
from lmm_mcp.errors import ModelError
from lmm_mcp.model.choosing import NONE, parse
from lmm_mcp.model.runtime import Chosen, FIRST_RETRY_s, LAST_RETRY_s

MAX_ANSWER_bytes = 1_000_000
MAX_CHOICE_tokens = 24
TAKES_GRAMMAR = "llama.cpp"
"""What a server that takes a grammar in its own notation (GBNF) calls itself in the header `Server`."""

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
        self._takes_grammar: bool | None = None
        """None while nobody knows."""

    @property
    def version(self) -> str:
        """The name of what answers."""
        return self._model or f"{self._host}:{self._port}"

    def choose(self, prompt: str, offered: Sequence[int], *, within_s: float) -> Chosen | None:
        """See `Runtime`. None, too, where the answer is none of those allowed."""
        text = self._answered(prompt, MAX_CHOICE_tokens, within_s, grammar_of(offered))
        chosen = None if text is None else parse(text.strip().rstrip("."), offered)
        return None if chosen is None else Chosen(chosen)

    def write(
        self,
        prompt: str,
        *,
        max_new_tokens: int,
        within_s: float,
        copied: Sequence[Offered] = (),  # noqa: ARG002 - see below
    ) -> str | None:
        """See `Runtime`. It writes freely, whatever it should copy; what it makes up is found afterwards."""
        return self._answered(prompt, max_new_tokens, within_s)

    def close(self) -> None:
        """Nothing is held between requests."""

    def _answered(self, prompt: str, max_new_tokens: int, within_s: float, grammar: str = "") -> str | None:
        if within_s <= 0 or time.monotonic() < self._retry_at_s:
            return None
        try:
            text = self._completed(prompt, max_new_tokens, time.monotonic() + within_s, grammar)
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

    def _completed(self, prompt: str, max_new_tokens: int, until_s: float, grammar: str) -> str:
        asked: dict[str, Any] = {
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_new_tokens,
            "temperature": 0,
            "stream": False,
            "chat_template_kwargs": {"enable_thinking": False},
        }
        if self._model:
            asked["model"] = self._model
        if grammar and self._takes_grammar:
            asked["grammar"] = grammar
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
            if "grammar" in asked and 400 <= reply.status < 500:  # one that has its name and not its notation
                self._takes_grammar = False
            elif self._takes_grammar is None:
                self._takes_grammar = (reply.getheader("Server") or "").startswith(TAKES_GRAMMAR)
            if reply.status != 200:
                raise ValueError(f"it said {reply.status} {reply.reason}")
        finally:
            connection.close()
        return str(json.loads(said)["choices"][0]["message"]["content"] or "")


def grammar_of(offered: Sequence[int]) -> str:
    """The answers that `choosing.parse` reads, in the notation of llama.cpp; a number that comes twice is found only there.

    >>> print(grammar_of((1, 2)))
    root ::= "none" | line (" " line){0,1}
    line ::= "1" | "2"
    """
    if not offered:
        return f'root ::= "{NONE}"'
    more = min(MAX_CHOSEN, len(offered)) - 1
    lines = " | ".join(f'"{number}"' for number in offered)
    return f'root ::= "{NONE}" | line (" " line){{0,{more}}}\nline ::= {lines}'


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
