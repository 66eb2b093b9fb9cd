"""What `lmm prove` found, as one file to share: counts, figures, intervals, versions and settings.

It is built from numbers and from words of this program alone. Nothing that a user or an agent ever wrote enters it: no text,
no name of a project, file, session or model of one's own; times are told by month, the store by a hash.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

from lmm_mcp import config
from lmm_mcp.domain.agents import KNOWN_AGENTS
from lmm_mcp.domain.recall import PARTS
from lmm_mcp.evaluation import runs
from lmm_mcp.evaluation.fitting import Worth
from lmm_mcp.evaluation.proving import Posed, Proof
from lmm_mcp.evaluation.runs import Difference, Mean, Run
from lmm_mcp.store.exporting import written_beside
from lmm_mcp.store.ledger import Ledger

FORMAT = 1
MAIN_ARM = "recall"
NO_MODEL = "no memory model serves"
LEARNED_LATER = "the memory model has learned from what came after the cut"
LEARNED_UNKNOWN = "nobody knows what the memory model has learned from"
WHY_NOT = frozenset({NO_MODEL, LEARNED_LATER, LEARNED_UNKNOWN})
"""Why an arm may be left out, in all the words that a receipt has for it."""


def of(
    proof: Proof,
    posed: Iterable[Posed],
    found: Mapping[str, Run],
    *,
    left_out_arms: Mapping[str, str],
    parts: Iterable[Worth],
    ledger: Ledger,
    budget_tokens: int,
    embedder: str,
) -> dict[str, Any]:
    """The receipt. `found`: runs by arm; of what they depend on only what is known here is taken. `left_out_arms`: and why."""
    posed = list(posed)
    about = found[MAIN_ARM].about
    agents = {row.thread.agent for row in ledger.threads()}
    default = config.Embedder().name
    store = about.get("store", {})
    return {
        "lmm_receipt": FORMAT,
        "made": month(datetime.now(UTC).timestamp() * 1000),
        "history": {
            "from": month(proof.begins_ms),
            "cut": month(proof.cut_ms),
            "to": month(proof.ends_ms),
            "store": store_hash(ledger),
            "passages": int(store.get("chunks", 0)),
            "embedded": int(store.get("embedded", 0)),
            "sessions": len({(row.thread.agent, row.thread.session_id) for row in ledger.threads()}),
            "projects": len({row.project for row in ledger.threads()}),
            "agents": sorted(agents & set(KNOWN_AGENTS)),
            "other_agents": len(agents - set(KNOWN_AGENTS)),
        },
        "settings": {
            "budget_tokens": budget_tokens,
            "embedder": embedder if embedder in ("none", default) else "another",
            "without": sorted(set(about.get("without", ())) & set(PARTS)),
        },
        "versions": {
            name: str(version) for name, version in sorted(about.get("versions", {}).items())
        }  # packages of ours and on which we depend
        | {name: int(store[name]) for name in ("schema", "terms") if name in store},
        "questions": {
            "possible": len(proof.posed),
            "asked": len(posed),
            "in_sessions": len({each.session for each in posed}),
            "by_kind": {kind: sum(each.kind == kind for each in posed) for kind in sorted({p.kind for p in posed})},
            "left_out": dict(proof.left_out),
        },
        "figures": {
            arm: {group: _figures(figures) for group, figures in runs.table(run.rows).items()}
            for arm, run in found.items()
        },
        "intervals": "95 %, bootstrap over sessions",
        "arms_left_out": {arm: why if why in WHY_NOT else "" for arm, why in left_out_arms.items()},
        f"{MAIN_ARM}_minus": {
            arm: [_difference(each) for each in runs.difference(run, found[MAIN_ARM])]
            for arm, run in found.items()
            if arm != MAIN_ARM
        },
        "parts_left_out": {
            each.part: {
                "gain": [_difference(gain) for gain in each.gain],
                "gain_on_the_other_half": [_difference(gain) for gain in each.held_out],
                "proposed": each.proposed,
            }
            for each in parts
        },
    }


def write(told: Mapping[str, Any], path: Path) -> None:
    """Write a receipt, whole or not at all."""
    with written_beside(path) as beside:
        beside.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def month(at_ms: float) -> str:
    """The month of a time, UTC.

    >>> month(1_772_000_000_000), month(0)
    ('2026-02', '')
    """
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m") if at_ms > 0 else ""


def store_hash(ledger: Ledger) -> str:
    """Tells whether two receipts are of the same store, and nothing else of it."""
    rows = sorted(
        "\x1f".join(
            map(str, (row.thread.agent, row.thread.thread_id, row.num_events, row.last_ms, row.chunker_version))
        )
        for row in ledger.threads()
    )
    return blake2b("\x1e".join(rows).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _figures(figures: Mapping[str, Mean]) -> dict[str, list[float]]:
    return {name: [*(round(value, 4) for value in (m.value, m.low, m.high)), m.num] for name, m in figures.items()}


def _difference(each: Difference) -> dict[str, Any]:
    gain = each.difference
    return {
        "figure": each.figure,
        "value": round(gain.value, 4),
        "interval": [round(gain.low, 4), round(gain.high, 4)],
        "better": each.num_better,
        "worse": each.num_worse,
        "of": gain.num,
    }
