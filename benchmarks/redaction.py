"""How fast secrets are cut, and how often: over every decoded string of the JSON-lines session files below a folder.

    python benchmarks/redaction.py FOLDER [--show]

Counts one character as one byte. Never prints what was found unless asked, and then its first six characters only.
"""

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from lmm_mcp.redaction import REDACTION_VERSION, hits, redact

MB = 1_000_000


def strings(value: Any) -> Iterator[str]:
    """Every string in a decoded JSON value, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


def texts_below(folder: Path) -> tuple[list[str], int]:
    """All strings of all session files, and how many lines could not be decoded."""
    texts: list[str] = []
    num_bad = 0
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_bytes().split(b"\n"):
            try:
                texts.extend(strings(orjson.loads(line)))
            except orjson.JSONDecodeError:
                num_bad += bool(line.strip())
    return texts, num_bad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="show the first six characters of what each rule found")
    asked = parser.parse_args()
    texts, num_bad = texts_below(asked.folder)
    num_mb = sum(map(len, texts)) / MB
    if not num_mb:
        sys.exit(f"no strings in *.jsonl files below {asked.folder}")

    began, began_cpu = time.perf_counter(), time.process_time()
    changed = [text for text in texts if redact(text) != text]
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu

    found: Counter[str] = Counter()
    beginnings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in changed:
        for rule_id, secret in hits(text):
            found[rule_id] += 1
            beginnings[rule_id][secret[:6]] += 1

    print(
        f"redaction version {REDACTION_VERSION}: {len(texts):,} strings, {num_mb:.1f} MB, {num_bad:,} lines not decoded"
    )
    print(
        f"{num_mb / wall_s:6.1f} MB/s   80 MB in {80 * wall_s / num_mb:.1f} s (processor time {80 * cpu_s / num_mb:.1f} s)"
    )
    print(f"{found.total() / num_mb:6.2f} hits per MB in {len(changed):,} strings")
    for rule_id, num in found.most_common():
        print(f"{num / num_mb:8.3f} per MB  {num:6,}  {rule_id}")
        if asked.show:
            for beginning, num_times in beginnings[rule_id].most_common(20):
                print(f"{'':24}{num_times:6,}  {beginning!r}")


if __name__ == "__main__":
    main()
