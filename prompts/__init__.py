"""Prompt texts as data: `*.md` files, read by `lmm_mcp.prompting` alone."""
