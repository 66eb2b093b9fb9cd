"""Spare this process the client of LanceDB's catalogue servers, which LanceDB imports whether or not one is asked for.

It has four hundred classes, made by pydantic at every start: 33 MB of each of our processes and more than half of the time
that importing LanceDB takes. Nothing here talks to a server. LanceDB wants no more of it, at its import, than names for
annotations and for errors; it gets empty classes of those names.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

PACKAGES = ("lance_namespace", "lance_namespace_urllib3_client")


class _Spared(MetaPathFinder, Loader):
    """Finds an empty module for every module of PACKAGES."""

    def find_spec(self, fullname: str, _: Sequence[str] | None, __: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in PACKAGES:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def exec_module(self, module: ModuleType) -> None:
        def named(name: str) -> type[Exception]:
            if name.startswith("__"):  # what Python itself looks for in a module
                raise AttributeError(name)
            made = type(name, (Exception,), {"__module__": module.__name__})
            setattr(module, name, made)  # so that a name means one class
            return made

        module.__dict__["__getattr__"] = named


def spare() -> None:
    """Until `give_back`, have the packages found empty; without effect where LanceDB is imported already."""
    if "lancedb" not in sys.modules:
        sys.meta_path.insert(0, _Spared())


def give_back() -> None:
    """LanceDB is imported: whoever else wants the packages gets the real ones."""
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, _Spared)]
    for name in [each for each in sys.modules if each.partition(".")[0] in PACKAGES]:
        if isinstance(getattr(sys.modules[name].__spec__, "loader", None), _Spared):
            del sys.modules[name]
