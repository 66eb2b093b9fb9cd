"""Offered lines in, what the memory model makes of them out: the lines that answer, and sentences that were checked.

`MemoryWriter` is the `Writer` that recall knows, over either runtime. Choosing comes first and alone decides whether there is an
answer; writing copies from the chosen lines and takes what is left of the time. Where that is not enough, or what it wrote says
no more than one of those lines, they go out without it.
"""

import time
from collections.abc import Callable, Sequence

from lmm_mcp import prompting
from lmm_mcp.domain.writing import Offered, Written
from lmm_mcp.model.copying import TOKENS_PER_SENTENCE
from lmm_mcp.model.runtime import Runtime
from lmm_mcp.model.validating import adds, validated


class MemoryWriter:
    """See the module.

    `max_sentences`: how many are wanted, 0 for none. `allowed`: how many a version may write, since those it wrote when it was
    judged passed; asked for each question, because another version may serve by then.
    """

    def __init__(
        self, runtime: Runtime, *, max_sentences: int = 0, allowed: Callable[[str], int] | None = None
    ) -> None:
        self._runtime = runtime
        self._max_sentences = max_sentences
        self._allowed = allowed

    def write(self, question: str, offered: Sequence[Offered], *, within_s: float) -> Written | None:
        """See `Writer`."""
        until_s = time.monotonic() + within_s
        version = self._runtime.version
        if not version or not offered:
            return None
        numbers = [each.number for each in offered]
        found = self._runtime.choose(prompting.choosing(question, offered), numbers, within_s=within_s)
        if found is None:
            return None
        most = self._most(version)
        if not found.numbers or not most:
            return Written(found.numbers, model=version)
        text = self._runtime.write(
            prompting.writing(question, offered),
            max_new_tokens=TOKENS_PER_SENTENCE * most,
            copied=[each for each in offered if each.number in found.numbers],
            within_s=until_s - time.monotonic(),
        )
        if self._runtime.version != version:  # another one may have written this
            return Written(found.numbers, model=version)
        stands, dropped = validated(text or "", offered)
        told = tuple(each for each in stands if adds(each, offered))[:most]
        return Written(found.numbers, told, dropped=len(dropped), model=version)

    def _most(self, version: str) -> int:
        """How many sentences this version is to write now."""
        if not self._max_sentences or self._allowed is None:
            return self._max_sentences
        return min(self._max_sentences, self._allowed(version))
