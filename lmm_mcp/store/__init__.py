"""Where memory lies: LanceDB tables, the raw archive and the ledger. LanceDB is imported here and nowhere else."""
