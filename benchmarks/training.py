"""How fast the memory model is trained and speaks, and what memory it takes: one table, meant for a machine with a GPU.

    python benchmarks/training.py --out figures                     all of it: some fifteen minutes of a large GPU
    python benchmarks/training.py --out figures --rows speed        in two calls of less than ten
    python benchmarks/training.py --out figures --rows presets briefs
    python benchmarks/training.py --out figures --shape tiny        the same code on a CPU, in two minutes

| rows | what |
|---|---|
| speed | a step of LoRA r32 on all linear layers, rows of 4,096 packed, 32,768 tokens: ours, TRL with its defaults, TRL with packing and Liger's kernels, Unsloth, on the same network and lessons; what is not installed is said to be so |
| presets | the memory of each preset with its own rows, in no more than a card of that size has |
| briefs | tokens a second and the slowest of twenty briefs of 200 tokens, by the product's own decoding |

Every row has a process of its own (training_rows.py), so that none sees another's memory, and what fails costs one row.
Rows are written as they come: `rows.jsonl`, one a line, and `table.md`. A later call with the same folder adds to both.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import util
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from training_plan import KINDS, Row, name_of, needed, planned

LIMIT_s = 240
"""Of a row."""
LEAST_mfu, LEAST_over_trl = 0.45, 1.3
Line = Mapping[str, Any]
"""What `rows.jsonl` has: the name of a row, how it was asked for, what was found or the `reason` why nothing was."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for rows.jsonl and table.md")
    parser.add_argument("--rows", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--shape", nargs="+", choices=("tiny", "0.6b", "1.7b", "4b"), default=["0.6b", "1.7b", "4b"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    about = measured(Row("machine"))
    if "reason" in about:
        sys.exit(f"nothing can be measured here: {about['reason']}")
    about["date"] = time.strftime("%Y-%m-%d", time.gmtime())
    print(told_of(about), flush=True)
    for row in planned(args.rows, args.shape, rate=about["rate"]):
        line = {"name": name_of(row), "row": asdict(row), "machine": about, **measured(row)}
        keep(line, args.out)
        print("| " + " | ".join(cells(line)) + " |", flush=True)
    print(f"\n{(args.out / 'table.md').read_text(encoding='utf-8')}")


def measured(row: Row, *, limit_s: float = LIMIT_s, program: str = "training_rows.py") -> dict[str, Any]:
    """A row's figures from a process of its own, or the `reason` why there are none."""
    missing = [each for each in needed(row) if util.find_spec(each) is None]
    if missing:
        return {"reason": f"not installed: {', '.join(missing)}"}
    command = [sys.executable, str(Path(__file__).with_name(program)), json.dumps(asdict(row))]
    began_s = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=limit_s, check=False)
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"reason": f"stopped after {limit_s:.0f} s"}
    except ValueError:
        said = done.stderr.strip().splitlines() or [""]
        return {"reason": f"ended with code {done.returncode}: {said[-1]}"[:300]}
    return {**found, "row_s": round(time.monotonic() - began_s, 1)}


def keep(line: Line, folder: Path) -> None:
    """Add a row to those of the folder, and write the table of all anew."""
    with (folder / "rows.jsonl").open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(line) + "\n")
    text = (folder / "rows.jsonl").read_text(encoding="utf-8")
    lines = {each["name"]: each for each in map(json.loads, text.splitlines())}  # of one asked for twice the later
    (folder / "table.md").write_text(table(list(lines.values())), encoding="utf-8")


def table(lines: Sequence[Line]) -> str:
    """All rows as Markdown, the machines they were measured on above, what they say below."""
    heads = ["what", "tokens/s", "MFU", "tensors GB", "held GB", ""]
    rows = ["| " + " | ".join(each) + " |" for each in (heads, ["---"] * len(heads), *map(cells, lines))]
    machines = dict.fromkeys(told_of(each["machine"]) for each in lines)
    return "\n".join([*machines, "", *rows, "", *(f"- {each}" for each in verdicts(lines)), ""])


def told_of(about: Line) -> str:
    """A machine in a line."""
    return (
        f"{about['date']}, {about['hardware']}; {about['versions']}; "
        f"a matrix product in {about['precision']} runs at {about['rate'] / 1e12:.3g} TFLOPS."
    )


def cells(line: Line) -> list[str]:
    """A row of the table."""
    if "reason" in line:
        return [line["name"], "", "", "", "", line["reason"].replace("|", "/")]
    mfu = f"{line['mfu']:.1%}" if line.get("mfu") else ""
    note = f"p95 {line['p95_s']:.2f} s; {line['note']}" if "p95_s" in line else line["note"]
    return [line["name"], f"{line['tokens_per_s']:,.0f}", mfu, f"{line['peak_gb']:.2f}", f"{line['held_gb']:.2f}", note]


def verdicts(lines: Sequence[Line]) -> list[str]:
    """What was wanted, and whether it came."""
    said = []
    for shape in dict.fromkeys(each["row"]["shape"] for each in lines if each["row"]["kind"] == "ours"):
        of_shape = [each for each in lines if each["row"]["shape"] == shape]
        own = _best(each for each in of_shape if each["row"]["kind"] == "ours")
        others = [each for each in of_shape if each["row"]["kind"] in ("trl", "unsloth")]
        plain = _best(each for each in others if each["row"]["kind"] == "trl" and not each["row"]["packing"])
        best = _best(others)
        if own is None:
            said.append(f"{shape}: **missed**, no step of ours could be measured")
            continue
        if shape == "1.7b":
            said.append(f"{shape}: {own['mfu']:.1%} of the matrix product's rate: {_judged(own['mfu'], LEAST_mfu)}")
        for other, name, least in ((plain, "TRL's defaults", LEAST_over_trl), (best, "the best of the others", 1.0)):
            if other is None:
                said.append(f"{shape}: not compared with {name}, which could not be measured")
                continue
            times = own["tokens_per_s"] / other["tokens_per_s"]
            said.append(f"{shape}: {times:.2f} times {name}: {_judged(times, least)}")
    return [*said, *(_of_preset(each) for each in lines if each["row"]["kind"] == "preset")]


def _of_preset(line: Line) -> str:
    if line["machine"]["precision"] == "float32":
        return f"{line['name']}: not judged on a CPU"
    if "reason" in line:
        return f"{line['name']}: **missed**, {line['reason']}"
    return f"{line['name']}: {line['held_gb']:.2f} GB held of {line['limit_gb']:.0f}: {'passed' if line['fits'] else '**missed**'}"


def _judged(value: float, least: float) -> str:
    return f"{'passed' if value >= least else '**missed**'} (wanted: at least {least:g})"


def _best(lines: Any) -> Line | None:
    return max((each for each in lines if "reason" not in each), key=lambda each: each["tokens_per_s"], default=None)


if __name__ == "__main__":
    main()
