"""A memory model for other programs: the adapter merged into its base, as safetensors, and as GGUF where llama.cpp is there.

    python -m trainer.export VERSION_FOLDER TARGET [--base BASE] [--bases FOLDER] [--gguf]

Before anything bears the target's name, the merged weights are loaded again from the disk and compared with the adapter at
work: the largest difference of any logit over several prompts must stay below a hundredth. Prints one JSON line at the end:
`{"folder": ..., "difference": ..., "gguf": ...}`, or `{"error": ...}` with exit code 1.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from lmm_mcp import prompting
from lmm_mcp.artifacts import durable
from lmm_mcp.artifacts.places import ADAPTER, MANIFEST
from lmm_mcp.domain.writing import Offered
from lmm_mcp.errors import LmmError, ModelError
from lmm_mcp.model.network import Network, find_base, load, merged, save_base
from lmm_mcp.model.rendering import prompt_ids

MAX_DIFFERENCE = 0.01
"""Of a logit: merging rounds, and rounds differently from adding."""
CONVERTER = "convert_hf_to_gguf.py"
LLAMA_CPP = "LLAMA_CPP"
"""Environment variable: folder of llama.cpp's sources."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    folder: Path
    difference: float
    """Largest difference of a logit."""
    gguf: Path | None


def export(
    version: Path,
    target: Path,
    *,
    base: str = "",
    bases: Path | None = None,
    gguf: bool = False,
    env: Mapping[str, str],
) -> Exported:
    """Write the version in `version` (a folder with a manifest and an adapter) to the new folder `target`.

    Raises ModelError where it cannot be read, differs once merged, or GGUF is wanted and no converter is there; then there is
    no `target`.
    """
    converter = find_converter(env) if gguf else None
    if target.exists():
        raise ModelError(f"{target} is there already; name a folder that is not.")
    told = durable.read_json(version / MANIFEST)
    named = base or (str(told.get("base", "")) if isinstance(told, dict) else "")
    folder = find_base(named, bases=bases)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        before = logits(load(folder, adapter=version / ADAPTER))
        network = load(folder, adapter=version / ADAPTER)  # merging changes it
        save_base(merged(network), network.tokenizer, draft)
        difference = max(float((a - b).abs().max()) for a, b in zip(before, logits(load(draft)), strict=True))
        if not difference < MAX_DIFFERENCE:
            raise ModelError(
                f"the merged model differs from the adapter by {difference:.3g} in a logit, more than {MAX_DIFFERENCE}; nothing was kept. Export with a base in float32."
            )
        durable.settle(draft)
        durable.publish(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Exported(target, difference, _converted(target, converter) if converter else None)


def logits(network: Network) -> list[torch.Tensor]:
    """What comes next after several prompts of the kinds that are served, in numbers."""
    network.model.eval()
    with torch.inference_mode():
        return [
            network.model(input_ids=torch.tensor([prompt_ids(network.tokenizer, prompt)], device=network.device))
            .logits[0]
            .float()
            .cpu()
            for prompt in _prompts()
        ]


def find_converter(env: Mapping[str, str]) -> Path:
    """llama.cpp's converter. Raises ModelError with the next step where it is not found."""
    for folder in filter(None, (env.get(LLAMA_CPP, ""), *env.get("PATH", "").split(os.pathsep))):
        if (path := Path(folder).expanduser() / CONVERTER).is_file():
            return path
    raise ModelError(
        f"{CONVERTER} of llama.cpp was not found on PATH or in {LLAMA_CPP}. Fetch llama.cpp's sources and set {LLAMA_CPP} to their folder, or export without --gguf."
    )


def _converted(folder: Path, converter: Path) -> Path:
    target = folder / f"{folder.name}.gguf"
    beside = folder / f".{folder.name}.part"
    command = [sys.executable, str(converter), str(folder), "--outfile", str(beside)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode or not beside.is_file():
        beside.unlink(missing_ok=True)
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelError(f"llama.cpp's converter failed: {last} The safetensors in {folder} are whole.")
    beside.replace(target)
    return target


def _prompts() -> list[str]:
    offered = [
        Offered(1, "", 0, "user", "the tests run with pytest -q", "2026-02-01"),
        Offered(2, "", 0, "command", "docker compose up -d db", "2026-02-03"),
    ]
    questions = (
        "Which command runs the tests?",
        "On which port does the database listen?",
        "Why was the cache dropped?",
    )
    made = [
        (prompting.choosing(each, offered), prompting.writing(each, offered), prompting.recalling(each, "shop"))
        for each in questions
    ]
    return [prompt for three in made for prompt in three]


def main(arguments: Sequence[str]) -> int:
    """Run as a program, see the module."""
    parser = argparse.ArgumentParser(prog="python -m trainer.export")
    parser.add_argument("version", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--base", default="")
    parser.add_argument("--bases", type=Path)
    parser.add_argument("--gguf", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        done = export(asked.version, asked.target, base=asked.base, bases=asked.bases, gguf=asked.gguf, env=os.environ)
    except (LmmError, OSError) as problem:
        sys.stdout.write(json.dumps({"error": str(problem)}) + "\n")
        return 1
    told = {"folder": str(done.folder), "difference": done.difference, "gguf": str(done.gguf or "")}
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
