"""Networks of the memory model: a base with its tokenizer and, where there is one, what was learned on top of it.

Only safetensors are read, and no code that comes with a model is run. A base is a folder, or the name of one that lies in the
cache of the model hub; it is fetched by name only when the user asks for that. What was learned lies in a folder of its own:
an adapter as peft writes it, or whole weights of a small model (`model.safetensors`); beside it `base.json` says on which base.
"""

import hashlib
import json
import os
import shutil
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from lmm_mcp.errors import ModelError
from lmm_mcp.model.rendering import end_id

ADAPTER_FILE = "adapter_model.safetensors"
WEIGHTS_FILE = "model.safetensors"
BASE_FILE = "base.json"
_WANTED = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_MAX_HEADER_bytes = 100_000_000


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a loaded network."""

    base: str
    """As it was asked for: a folder or a name."""
    fingerprint: str
    """Of the base, see `fingerprint`."""
    num_parameters: int
    """Of the base."""
    context_tokens: int
    """The longest prompt with its answer that the base was made for."""
    adapter: str = ""
    """Folder of what was learned on top, '' for none."""


@dataclass(frozen=True, slots=True)
class Network:
    """A model ready to be asked or trained, with its tokenizer."""

    model: Any
    """A causal language model of transformers, or one of peft around it."""
    tokenizer: Any
    card: Card

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        device: torch.device = next(iter(self.model.parameters())).device
        return device


def load(
    base: Path | str,
    *,
    adapter: Path | None = None,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    trainable: bool = False,
    download: bool = False,
    quantization: Any = None,
) -> Network:
    """Load a base, and an adapter on top of it.

    `dtype` None = as the weights lie there, but float32 on a CPU. `trainable` keeps the adapter's weights open to training.
    Raises ModelError where something is missing, damaged, or does not fit together.
    """
    folder = find_base(base, download=download)
    mark = fingerprint(folder)
    if adapter is not None:
        check_adapter(adapter, mark)
    hush: Any = transformers_logging.disable_progress_bar
    hush()  # bars of a library would run through whatever this process says
    wanted = dtype or (torch.float32 if device == "cpu" else "auto")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=wanted,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            attn_implementation="sdpa",
            **({"quantization_config": quantization} if quantization is not None else {}),
        )
    except (
        Exception
    ) as problem:  # transformers raises whatever its parts raise: OSError, ValueError, SafetensorError, ...
        raise ModelError(
            f"the base model in {folder} cannot be read: {_short(problem)}. Fetch or make it again, or name another base."
        ) from problem
    _check_tokenizer(tokenizer, model, folder)
    num_parameters = sum(each.numel() for each in model.parameters())
    if adapter is not None:
        model = _with_adapter(model, adapter, trainable=trainable)
    model.eval()
    if quantization is None:
        model.to(device)
    context = int(getattr(model.config, "max_position_embeddings", 0) or 2048)
    card = Card(str(base), mark, num_parameters, context, str(adapter or ""))
    return Network(model, tokenizer, card)


def with_lora(model: Any, *, rank: int, alpha: int, dropout: float = 0.0) -> Any:
    """Put an untrained adapter on every linear layer but the last. It changes nothing until it is trained."""
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules="all-linear", bias="none", task_type="CAUSAL_LM"
    )
    with _hushed():
        return get_peft_model(model, config)


def find_base(base: Path | str, *, bases: Path | None = None, download: bool = False) -> Path:
    """The folder of a base: a path, a name below `bases` (those this project made), or a name in the cache of the model hub.

    Only with `download`, and where `HF_HUB_OFFLINE` does not forbid it, is a name looked up in the network. Raises ModelError.
    """
    path = Path(base).expanduser()
    if bases is not None and (bases / str(base) / "config.json").is_file():
        return bases / str(base)
    if (path / "config.json").is_file():
        return path
    if path.is_absolute() or str(base).startswith((".", "~")) or str(base).count("/") != 1:
        own = " `lmm train make-base` makes it." if str(base) == "tiny" else ""
        raise ModelError(
            f"there is no base model {base}: no folder of that name with a config.json.{own} Name a folder, or a model as OWNER/NAME."
        )
    try:
        found = snapshot_download(str(base), local_files_only=not download, allow_patterns=list(_WANTED))
    except Exception as problem:  # offline, unknown, not allowed: the hub's client has an error for each
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        step = (
            "HF_HUB_OFFLINE forbids to fetch it: unset it, or name a folder"
            if download and offline
            else "see whether this machine reaches the model hub, or name a folder"
            if download
            else f"fetch it first with `hf download {base}`, or name a folder that holds one"
        )
        raise ModelError(f"the base model {base} is not on this machine; {step}.") from problem
    return Path(found)


def fingerprint(folder: Path) -> str:
    """A hash of a base's shape and of what its weight files say of themselves: 16 hexadecimal digits.

    Of the weights only headers and sizes are read, and the first and last 64 KB, so that it takes milliseconds at any size.
    Raises ModelError where there are no weights in safetensors, or a file is cut short.
    """
    digest = hashlib.blake2b(digest_size=8)
    try:
        shape = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        for passing in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):
            shape.pop(passing, None)
        digest.update(json.dumps(shape, sort_keys=True).encode())
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise ModelError(
                f"{folder} holds no weights in safetensors; other formats can run code, so convert them or name another base."
            )
        for file in weights:
            digest.update(_outline(file))
    except (OSError, ValueError) as problem:
        raise ModelError(
            f"the base model in {folder} cannot be read: {_short(problem)}. Fetch or make it again."
        ) from problem
    return digest.hexdigest()


def check_adapter(folder: Path, base_fingerprint: str) -> None:
    """Raise ModelError where what lies there is damaged or was learned on another base."""
    try:
        made_on = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))["fingerprint"]
        file = _learned_file(folder)
        _outline(file)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ModelError(
            f"the adapter in {folder} cannot be read: {_short(problem)}. Roll back to another version, or train again."
        ) from problem
    if made_on != base_fingerprint:
        raise ModelError(
            f"the adapter in {folder} was trained on another base ({made_on}, here {base_fingerprint}); name that base, or train again."
        )


def save_adapter(network: Network, folder: Path, *, state: dict[str, torch.Tensor] | None = None) -> None:
    """Write what was learned: peft's files, or whole weights where there is no adapter. Whole, or not at all.

    `state` holds the weights where they do not lie in this process in one piece. Raises OSError where the disk is full.
    """
    beside = _fresh(folder)
    if isinstance(network.model, PeftModel):
        network.model.save_pretrained(str(beside), state_dict=state, save_embedding_layers=False)
        (beside / "README.md").unlink(missing_ok=True)  # a model card to be filled in by hand
    else:
        _save_weights(network.model, beside / WEIGHTS_FILE, state)
    (beside / BASE_FILE).write_text(
        json.dumps({"fingerprint": network.card.fingerprint, "name": network.card.base}), encoding="utf-8"
    )
    _settle(beside, folder)


def save_base(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a base of our own making: configuration, weights, tokenizer. Whole, or not at all."""
    beside = _fresh(folder)
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    _settle(beside, folder)


def merged(network: Network) -> Any:
    """A model of its own with the adapter added into the weights. The network given is used up by that."""
    return network.model.merge_and_unload() if isinstance(network.model, PeftModel) else network.model


def ready_to_serve(network: Network) -> Network:
    """The same with the adapter added into the weights where that loses nothing: it then answers in half the time on a CPU.

    In fewer digits than float32 the sum would be rounded, so there the adapter stays beside. Judging and serving both ask for
    this, so that what is judged is what is served. The network given is used up by it.
    """
    if not isinstance(network.model, PeftModel) or network.device.type != "cpu":
        return network
    if any(each.dtype != torch.float32 for each in network.model.parameters()):
        return network
    return replace(network, model=merged(network).eval())


@contextmanager
def _hushed() -> Iterator[None]:
    # peft asks transformers for a property by its old name.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def _with_adapter(model: Any, folder: Path, *, trainable: bool) -> Any:
    try:
        if (folder / ADAPTER_FILE).is_file():
            with _hushed():
                return PeftModel.from_pretrained(model, folder, is_trainable=trainable)
        missing, unexpected = model.load_state_dict(load_file(folder / WEIGHTS_FILE), strict=False)
    except Exception as problem:  # as in `load`
        raise ModelError(
            f"the adapter in {folder} cannot be read: {_short(problem)}. Roll back to another version, or train again."
        ) from problem
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    if unexpected or set(missing) - tied:
        raise ModelError(
            f"the weights in {folder} are not those of this base; roll back to another version, or train again."
        )
    return model


def _check_tokenizer(tokenizer: Any, model: Any, folder: Path) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens and the model {rows}: they do not belong together. Fetch both anew from one place."
        )
    end_id(tokenizer)


def _learned_file(folder: Path) -> Path:
    file = folder / ADAPTER_FILE
    return file if file.is_file() else folder / WEIGHTS_FILE


def _outline(file: Path) -> bytes:
    """What identifies a safetensors file; ValueError where it is none, or cut short."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(8)
        (length,) = struct.unpack("<Q", head) if len(head) == 8 else (0,)
        if not 0 < length <= min(size, _MAX_HEADER_bytes):
            raise ValueError(f"{file.name} is no safetensors file")
        header = opened.read(length)
        table = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in table.items() if name != "__metadata__"]
        if 8 + length + max(ends, default=0) != size:
            raise ValueError(f"{file.name} is damaged: {size} bytes where {8 + length + max(ends, default=0)} belong")
        first = opened.read(65536)
        opened.seek(max(8 + length, size - 65536))
        return header + first + opened.read()


def _save_weights(model: Any, file: Path, state: dict[str, torch.Tensor] | None) -> None:
    weights: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in (state if state is not None else model.state_dict()).items():
        if tensor.data_ptr() not in seen:  # tied weights are kept once
            seen.add(tensor.data_ptr())
            weights[name] = tensor.detach().cpu().contiguous()
    save_file(weights, file, metadata={"format": "pt"})


def _fresh(folder: Path) -> Path:
    beside = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True, mode=0o700)
    return beside


def _settle(beside: Path, folder: Path) -> None:
    """Put what was written in place of what is there, so that a reader sees the one or the other."""
    for file in beside.iterdir():
        file.chmod(0o600)
        _sync(file)
    _sync(beside)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)  # a folder cannot be renamed over another: dying here leaves both, under other names
    beside.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle of a folder to sync
    opened = os.open(path, os.O_RDONLY if os.name != "nt" or path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _short(problem: BaseException) -> str:
    lines: Sequence[str] = str(problem).strip().splitlines()
    return (lines[0] if lines else type(problem).__name__).rstrip(".")
