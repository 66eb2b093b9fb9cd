"""What a trained candidate scored, and what was decided: `Promote` or `Keep`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

ARMS = (
    "no memory",
    "retrieval",
    "weights",
    "retrieval + weights",
    "placebo",
    "long context",
    "oracle",
    "sentences",
)
"""Ways to answer a probe. `placebo`: an adapter of the same size, trained on another user's lessons. `sentences`: as
`retrieval + weights`, with what the model writes in front, where that is looked at and not served."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one arm did with one probe."""

    probe_id: str
    slice: str
    category: str
    cohort: str
    score: float
    """0 to 1."""
    output: str = ""
    """What was written; never leaves this machine."""
    loss_nats: float = 0.0
    """Median over the tokens of the expected answer."""
    latency_ms: float = 0.0
    cites_known: bool = True
    """Every cited number was offered."""
    num_sentences: int = 0
    """Of its own that it wrote; 0 also where it wrote that nothing answers."""
    supported: float | None = None
    """Share of these that the validator let stand; None where there are none."""
    num_new: int = 0
    """Sentences that are served: those that stand and tell more than one of their lines does."""
    abstained: bool = False
    should_abstain: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What one arm gives to the probes of one category that have an answer. Shares; None where there is nothing to measure."""

    num: int
    score: float
    strict: float | None
    """Of the identifiers, numbers and commands of the right answer, how many a reader gets."""
    loose: float | None
    """The same with names, and the terms that say most."""
    jaccard: float | None
    """How much what is given to two probes is alike, over all pairs: 0 all different."""
    parrot: float
    """Share of the four most frequent among what is given."""


@dataclass(frozen=True, slots=True)
class ScoreSheet:
    """All outcomes of one model, by arm, over one frozen set of probes."""

    model: str
    """Version that was judged; `base` for none."""
    probes_hash: str
    outcomes: Mapping[str, tuple[Outcome, ...]]
    """By arm, of `ARMS`; an arm holds the probes that can be asked in that way, all arms in the same order."""
    median_loss_nats: float = 0.0
    """Over all tokens of the general slice."""
    adapter_bytes: int = 0
    p95_ms: float = 0.0
    """Of choosing lines, and of writing where what is written is served."""
    max_sentences: int = 0
    """Of its own that it was to serve when it was judged, as the settings said; 0: it only chose lines."""
    by_category: Mapping[str, Mapping[str, Said]] = field(default_factory=dict)
    """By arm and category: figures of words, which cannot be counted again once the words are gone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one gate saw."""

    gate: str
    """`G0` to `G8`."""
    passed: bool
    told: str
    """One sentence with the figures and what was asked of them."""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Promote:
    """The candidate may speak."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """The old model stays: a normal day. The findings that failed are the reasons."""

    findings: tuple[Finding, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """One sentence for each gate that said no."""
        return tuple(f"{each.gate}: {each.told}" for each in self.findings if not each.passed)


Verdict = Promote | Keep
