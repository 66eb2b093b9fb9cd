"""`python -m lmm_mcp.model`: the memory model in a process of its own. Started by `runtime.py`, not by people."""

from lmm_mcp.model.child import main

if __name__ == "__main__":
    main()
