"""`python -m lmm_mcp` is the same as `lmm`."""

import sys

from lmm_mcp.cli import main

sys.exit(main())
