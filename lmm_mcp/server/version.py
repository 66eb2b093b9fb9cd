"""Which version of this program is installed. A file of its own: who only asks for that need not load a server."""

from importlib import metadata


def version() -> str:
    """Name the version that is installed, '' where the program was never installed."""
    try:
        return metadata.version("lmm-mcp")
    except metadata.PackageNotFoundError:
        return ""
