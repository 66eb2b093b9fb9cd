"""LanceDB works without the client of catalogue servers that it imports."""

import subprocess
import sys

import pytest

STORE = """
import sys
from pathlib import Path
{first}
from lmm_mcp.store.chunks import ChunkStore
store = ChunkStore.open(Path(sys.argv[1]) / "store", create=True)
assert store.count() == 0
print("lance_namespace_urllib3_client" in sys.modules)
import lance_namespace, lance_namespace_urllib3_client.models
assert lance_namespace.__file__ and "pydantic" in repr(lance_namespace.ListTablesResponse.__mro__)
"""


@pytest.mark.parametrize(("first", "told"), [("", "False"), ("import lancedb", "True")])
def test_a_store_opens_without_the_client_of_catalogues_which_others_get_all_the_same(tmp_path, first, told):
    code = STORE.format(first=first)
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == told, done.stderr
