"""Where memory lies: LanceDB tables, the raw archive and the ledger. LanceDB is imported here and nowhere else."""

from lmm_mcp.store.spared import spare

spare()  # before any module of this package imports LanceDB
