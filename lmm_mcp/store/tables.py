"""The LanceDB tables as tables: made, indexed, read by column, written whole, counted. `chunks.py` gives them meaning."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.expr import Expr
from lancedb.index import FTS

from lmm_mcp.errors import HomeError, MixedEmbeddings, StoreError
from lmm_mcp.refusal import refusal_behind
from lmm_mcp.store import frequencies, schema, spared
from lmm_mcp.store.schema import EmbedderRecord, StoreRecord
from lmm_mcp.store.search import any_id
from lmm_mcp.store.terms import TERMS_VERSION, terms

spared.give_back()

CHUNKS = "chunks"
VECTORS = "vectors"
_SET_numbers = 1_000_000
"""Numbers of tables for each set of vectors. A program that knows of one set only drops the others as left over."""
ALL_ROWS = 2**31 - 1
"""A limit that is none: LanceDB returns ten rows where no limit is named."""
_TEXT_INDEX = FTS(
    # `terms` is analysed already, by `store.terms`: the index must only split at blanks.
    base_tokenizer="whitespace",
    lower_case=False,
    stem=False,
    remove_stop_words=False,
    ascii_folding=False,
    max_token_length=256,  # bytes; a term has up to 64 characters
    with_position=False,
)
INDEX_CACHE_bytes = 1_000_000_000
METADATA_CACHE_bytes = 512_000_000
_LONG_LIST_ids = 1_000
_SOURCE_PLACE = re.compile(r",?\s*[^\s,]*\.rs:\d+(?::\d+)?")
_ERROR_KIND = re.compile(r"(?:\b(?:lance|wrapped|generic \w+|external) error|\bLanceError\(\w+\)):\s*", re.I)
_SENTENCE_chars = 300


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What lies in the store, for `lmm status` and `lmm doctor`."""

    num_chunks: int = 0
    num_embedded: int = 0
    """Chunks with at least one vector that is served."""
    by_agent: Mapping[str, int] = field(default_factory=dict)
    by_project: Mapping[str, int] = field(default_factory=dict)
    num_unindexed: int = 0
    """Rows that the text index does not hold yet; they are found by reading them, which is slower."""
    num_fragments: int = 0
    """Data files of all tables; many small ones slow reading down until `optimize`."""
    num_versions: int = 0
    num_shelves: int = 0
    disk_bytes: int = 0
    embedder: EmbedderRecord | None = None
    next_embedder: EmbedderRecord | None = None
    """Whose vectors are being made, to be served once they are complete."""
    num_embedded_next: int = 0
    """Chunks that have theirs already."""


@contextmanager
def named_errors(folder: Path, doing: str) -> Iterator[None]:
    """Turn what LanceDB raises into a StoreError that says where and what to do next."""
    try:
        yield
    except Exception as problem:
        if not is_of_lance(problem):
            raise
        raise StoreError(f"cannot {doing} the store in {folder}: {_told(problem, folder, doing)}") from problem


def is_of_lance(problem: Exception) -> bool:
    """Whether LanceDB raises such an error where its files or the disk are at fault. Its panics have no class to import."""
    return isinstance(problem, RuntimeError | OSError | ValueError | pa.ArrowException) or (
        type(problem).__name__ == "RustPanic"
    )


def _told(problem: Exception, folder: Path, doing: str) -> str:
    """What is wrong and what to do about it."""
    match refusal_behind(problem):
        case "full":
            return "the disk is full. Free some space and try again. Nothing that was stored before is lost."
        case "forbidden":
            return (
                "this user may not. Give it the right to read and write there. Nothing that was stored before is lost."
            )
        case _:
            # Reading was tried twice; writing may have met with something that passes.
            surely = "Its files" if doing in ("open", "read") else "If it happens again, its files"
            return (
                f"{plain(str(problem))}. {surely} are damaged or missing. No session is lost, for the archive "
                f"holds them: close the agents that use this memory, move the folder {folder} away and run `lmm import`, "
                "which makes the store anew."
            )


def plain(told: str) -> str:
    """Make one sentence of LanceDB's: without its kinds of errors and its places in source code.

    >>> plain("lance error: LanceError(IO): Generic LocalFileSystem error: failed to fill, /root/x/function.rs:250:5")
    'failed to fill'
    >>> plain("Table 'chunks' was not found")
    "Table 'chunks' was not found"
    """
    lines = _SOURCE_PLACE.sub("", told).splitlines() or [""]
    said = _ERROR_KIND.sub("", lines[0]).strip(" ,.;")
    return said[:_SENTENCE_chars] or "LanceDB does not say why"


def connect(folder: Path) -> Any:
    """Open the folder as a database whose reads always see the latest commit (0.1 ms each)."""
    # LanceDB's own bound is 6 GB. These hold what the questions of a store of a million rows touch.
    session = lancedb.Session(index_cache_size_bytes=INDEX_CACHE_bytes, metadata_cache_size_bytes=METADATA_CACHE_bytes)
    return lancedb.connect(str(folder), read_consistency_interval=timedelta(0), session=session)


def chunks_name(number: int) -> str:
    """The table of chunks of a shelf, counted from 1.

    >>> chunks_name(1), chunks_name(2)
    ('chunks', 'chunks_2')
    """
    return CHUNKS if number == 1 else f"{CHUNKS}_{number}"


def vectors_name(number: int, vector_set: int = 0) -> str:
    """The table of vectors of a shelf, counted from 1, in a set, counted from 0.

    >>> vectors_name(1), vectors_name(2), vectors_name(2, 1)
    ('vectors', 'vectors_2', 'vectors_1000002')
    """
    number += vector_set * _SET_numbers
    return VECTORS if number == 1 else f"{VECTORS}_{number}"


def prepare(folder: Path, record: StoreRecord | None) -> StoreRecord:
    """Make what is missing and migrate what is old; say what holds now. May be interrupted at any point and repeated."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as problem:
        raise HomeError(f"cannot make {folder}: {problem.strerror}. Set LMM_HOME to a folder of yours.") from problem
    database = connect(folder)
    if record is None:
        database.create_table(CHUNKS, schema=schema.CHUNKS, exist_ok=True)
    record = record or StoreRecord()
    # What was made once is opened: an empty table in its place would hide that all of it is gone.
    shelves = [database.open_table(chunks_name(number)) for number in record.shelves]
    for version in range(record.schema_version, schema.SCHEMA_VERSION):
        schema.MIGRATIONS[version](database)
        record = replace(record, schema_version=version + 1)
        schema.write_record(folder, record)
    if record.terms_version != TERMS_VERSION:
        shelves = [rewrite_chunks(database, database.open_table(each.name), _with_new_terms) for each in shelves]
        record = replace(record, terms_version=TERMS_VERSION)
    for chunks in shelves:
        index_terms(chunks)
    if schema.read_record(folder) != record:
        schema.write_record(folder, record)
    return record


def make_chunks(database: Any, number: int, batches: Iterable[pa.RecordBatch] = ()) -> Any:
    """Make the table of chunks of a new shelf, with its text index; what an interrupted attempt left there goes."""
    rows = pa.RecordBatchReader.from_batches(schema.CHUNKS, batches)
    table = database.create_table(chunks_name(number), rows, mode="overwrite")
    index_terms(table)
    return table


def make_vectors(database: Any, number: int, vector_set: int, dim: int, batches: Iterable[pa.RecordBatch] = ()) -> Any:
    """Make the table of vectors of a shelf; what an interrupted attempt left there goes."""
    rows = pa.RecordBatchReader.from_batches(schema.vectors_schema(dim), batches)
    return database.create_table(vectors_name(number, vector_set), rows, mode="overwrite")


def sweep(database: Any, folder: Path, record: StoreRecord) -> None:
    """Drop tables that the record does not name: somebody died while making or replacing shelves, or sets of vectors."""
    sets = [record.vector_set] if record.next_set is None else [record.vector_set, record.next_set]
    named = {chunks_name(number) for number in record.shelves}
    named |= {vectors_name(number, each) for number in record.shelves for each in sets}
    for path in folder.glob("*.lance"):
        name = path.stem
        if name not in named and re.fullmatch(rf"({CHUNKS}|{VECTORS})(_\d+)?", name):
            database.drop_table(name)
    frequencies.sweep(folder, record.shelves)


def rewrite_chunks(database: Any, table: Any, change: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None) -> Any:
    """Write the table anew, each batch changed on the way, with a new text index; returns the new table."""
    table = rewrite(database, table, change)
    index_terms(table)
    return table


def rewrite(database: Any, table: Any, change: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None) -> Any:
    """Write the table anew as one more version of itself: readers see the old rows or the new ones."""
    wanted: pa.Schema = table.schema

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in table.search().limit(ALL_ROWS).to_batches(4096):
            yield change(batch) if change else batch

    return database.create_table(table.name, pa.RecordBatchReader.from_batches(wanted, batches()), mode="overwrite")


def drop_old_versions(table: Any) -> None:
    """Delete every version but the latest, and files that no version names. Raises StoreError if one stays."""
    for _ in range(3):
        # One millisecond and not zero: LanceDB warns about zero, which is just what is meant here.
        table.optimize(cleanup_older_than=timedelta(milliseconds=1), delete_unverified=True)
        if len(table.list_versions()) == 1:
            return
    raise StoreError(f"{len(table.list_versions())} versions of {table.name} are still on disk. Run the command again.")


def upsert(table: Any, keys: Sequence[str], rows: pa.Table) -> None:
    """Replace rows with equal keys and add the others. No key may stand twice in `rows`: LanceDB would insert both."""
    table.merge_insert(list(keys)).when_matched_update_all().when_not_matched_insert_all().execute(rows)


def parts(ids: Iterable[str]) -> Iterator[list[str]]:
    """Cut long lists of ids to a length that a filter can bear.

    >>> [len(part) for part in parts(str(i) for i in range(2500))]
    [1000, 1000, 500]
    """
    left = iter(ids)
    while part := list(islice(left, _LONG_LIST_ids)):
        yield part


def columns_by_id(table: Any, names: Sequence[str], where: Any = None) -> dict[str, tuple[Any, ...]]:
    """Id to the values of the named columns, for all rows or those of a filter."""
    request = table.search().select(["id", *names]).limit(ALL_ROWS)
    found = (request if where is None else request.where(where)).to_arrow()
    return dict(
        zip(found["id"].to_pylist(), zip(*(found[name].to_pylist() for name in names), strict=True), strict=True)
    )


def count(table: Any, where: Expr | None = None) -> int:
    """Rows, all or those of a filter."""
    if where is None:
        return int(table.count_rows())
    # `count_rows` takes a filter as text only, and its parser reads backslashes that `Expr.to_sql` does not escape:
    # a project named `\\' or 1=1` would be counted as all. A search takes the expression itself.
    return int(table.search().where(where).select(["first_ms"]).limit(ALL_ROWS).to_arrow().num_rows)


def scopes_of(chunks: Any, ids: Collection[str]) -> dict[str, tuple[Any, ...]]:
    """The scope columns of those of `ids` that lie in the table of chunks."""
    found: dict[str, tuple[Any, ...]] = {}
    for part in parts(ids):
        found |= columns_by_id(chunks, schema.SCOPE_COLUMNS, any_id("id", part))
    return found


def ids_of(chunks: Any) -> list[str]:
    """The id of every chunk."""
    found: list[str] = _column(chunks, "id").to_pylist()
    return found


def placed_vectors(table: Any, scopes: Mapping[str, tuple[Any, ...]]) -> pa.Table:
    """The vectors of these chunks, each with the scope columns given for its chunk."""
    columns = ["chunk_id", "piece", "vector", "windows"]
    found = table.search().where(any_id("chunk_id", scopes)).select(columns).limit(ALL_ROWS).to_arrow()
    chunk_ids = found["chunk_id"].to_pylist()
    rows = [found[name].combine_chunks() for name in columns]
    return _vector_table(rows[:-1], rows[-1], [scopes[each] for each in chunk_ids], table.schema)


def move_vectors(table: Any, scopes: Mapping[str, tuple[Any, ...]]) -> None:
    """Bring the scope columns of vectors in line with chunks that moved to another project or time."""
    for part in parts(scopes):
        rows = placed_vectors(table, {each: scopes[each] for each in part})
        if rows.num_rows:
            upsert(table, ["chunk_id", "piece"], rows)


def vector_rows(
    vectors: Sequence[tuple[str, int, np.ndarray]],
    scopes: Mapping[str, tuple[Any, ...]],
    embedder: EmbedderRecord,
    windows: Mapping[str, bytes],
) -> pa.Table:
    """Rows of the table of vectors. `windows` belong to the first piece of their chunk.

    Raises MixedEmbeddings for a vector that `embedder` cannot have made.
    """
    for chunk_id, _, vector in vectors:
        if vector.shape != (embedder.dim,):
            raise MixedEmbeddings(
                f"a vector of {vector.size} dimensions was made for chunk {chunk_id}, the store holds {embedder.dim} "
                f"({embedder.name}). Run `lmm embedder rebuild`: all are embedded again beside them."
            )
    flat = np.concatenate([vector for _, _, vector in vectors]) if vectors else np.empty(0)
    columns = [
        pa.array([chunk_id for chunk_id, _, _ in vectors], pa.string()),
        pa.array([piece for _, piece, _ in vectors], pa.int32()),
        pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.float32)), embedder.dim),
    ]
    kept = pa.array([windows.get(chunk_id, b"") if piece == 0 else b"" for chunk_id, piece, _ in vectors], pa.binary())
    places = [scopes[chunk_id] for chunk_id, _, _ in vectors]
    return _vector_table(columns, kept, places, schema.vectors_schema(embedder.dim))


def num_unindexed(chunks: Any) -> int:
    """Rows that the text index does not hold."""
    index = next((each for each in chunks.list_indices() if each.columns == ["terms"]), None)
    return int(chunks.count_rows() if index is None else index.num_unindexed_rows or 0)


def num_fragments(table: Any) -> int:
    """Data files of a table."""
    return int(table.stats()["fragment_stats"]["num_fragments"])


def disk_bytes(folder: Path) -> int:
    """What lies in the folder of the store; files that vanish while we look count nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def count_distinct(table: Any, name: str) -> int:
    """Different values of a column."""
    return int(pc.count_distinct(_column(table, name)).as_py())


def counts(table: Any, name: str) -> dict[str, int]:
    """The values of a column with the number of their rows, most frequent first."""
    return most_frequent_first(
        {each["values"]: each["counts"] for each in pc.value_counts(_column(table, name)).to_pylist()}
    )


def most_frequent_first(counts: Mapping[str, int]) -> dict[str, int]:
    """The same counts in their order; equal ones by name."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def texts(table: Any, name: str) -> Iterator[str]:
    """The values of a text column, read in batches."""
    for batch in table.search().select([name]).limit(ALL_ROWS).to_batches(4096):
        yield from batch[name].to_pylist()


def read_whole(table: Any) -> None:
    """Read every row of a table, which shows whether all of it can be read. Not remembered: takes little memory."""
    for _ in table.search().limit(ALL_ROWS).to_batches(1024):
        pass


def threads(table: Any) -> set[tuple[str, str]]:
    """Agent and thread id of every thread that has a row."""
    found = table.search().select(["agent", "thread_id"]).limit(ALL_ROWS).to_arrow()
    found = found.group_by(["agent", "thread_id"]).aggregate([])
    return set(zip(found["agent"].to_pylist(), found["thread_id"].to_pylist(), strict=True))


def _vector_table(
    columns: Sequence[Any], windows: Any, scopes: Sequence[tuple[Any, ...]], wanted: pa.Schema
) -> pa.Table:
    places = [
        pa.array([scope[number] for scope in scopes], wanted.field(name).type)
        for number, name in enumerate(schema.SCOPE_COLUMNS)
    ]
    by_name = dict(zip(["chunk_id", "piece", "vector", *schema.SCOPE_COLUMNS], [*columns, *places], strict=True))
    return pa.table([(by_name | {"windows": windows})[name] for name in wanted.names], schema=wanted)


def index_terms(chunks: Any, *, anew: bool = False) -> None:
    """Make the text index where there is none. Rows written later are found by reading until `optimize` adds them."""
    if anew or not any(each.columns == ["terms"] for each in chunks.list_indices()):
        chunks.create_index("terms", config=_TEXT_INDEX, replace=anew)


def _with_new_terms(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = {name: batch[name].to_pylist() for name in ("header", "lines", "files", "commands")}
    texts = [schema.text_of_row(*row) for row in zip(*columns.values(), strict=True)]
    found = pa.array([" ".join(terms(text)) for text in texts], pa.string())
    return batch.set_column(batch.schema.get_field_index("terms"), batch.schema.field("terms"), found)


def _column(table: Any, name: str) -> Any:
    return table.search().select([name]).limit(ALL_ROWS).to_arrow()[name]
