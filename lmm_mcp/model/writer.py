"""Offered lines in, what the memory model makes of them out: the lines that answer, and sentences that were checked.

`MemoryWriter` is the `Writer` that recall knows, over either runtime. Choosing comes first and alone decides whether there is an
answer; writing takes what is left of the time, and where that is not enough the chosen lines go out without it.
"""

import time
from collections.abc import Sequence

from lmm_mcp import prompting
from lmm_mcp.domain.writing import Offered, Written
from lmm_mcp.model.runtime import Runtime
from lmm_mcp.model.validating import validated

TOKENS_PER_SENTENCE = 60


class MemoryWriter:
    """See the module. `max_sentences`: how many may be written, 0 for none."""

    def __init__(self, runtime: Runtime, *, max_sentences: int = 0) -> None:
        self._runtime = runtime
        self._max_sentences = max_sentences

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
        if not found.numbers or not self._max_sentences:
            return Written(found.numbers, model=version)
        text = self._runtime.write(
            prompting.writing(question, offered),
            max_new_tokens=TOKENS_PER_SENTENCE * self._max_sentences,
            within_s=until_s - time.monotonic(),
        )
        stands, dropped = validated(text or "", offered)
        return Written(found.numbers, stands[: self._max_sentences], dropped=len(dropped), model=version)
