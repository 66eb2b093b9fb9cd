"""The MCP server: tools over recall, on standard input and output."""
