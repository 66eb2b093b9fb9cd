"""What of ours stands in a JSON file of somebody else's: put in with a trace of what was missing, and taken out again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lmm_mcp.errors import ConfigError
from lmm_mcp.integrations import files, json_text
from lmm_mcp.integrations.contract import Change, Trace

_FILE = ""
_FOLDER = ".."
_BLANK = "."
"""A file of blanks is as good as none to whoever reads it, but it was there."""


class JsonFile:
    """One file while it is being changed, in memory. Raises ConfigError for a damaged one, and nothing is touched."""

    def __init__(self, path: Path, trace: Trace | None = None) -> None:
        self.path = path
        self.before = files.read(path)
        self._text, self._bom = files.decoded(path, self.before)
        self._made: dict[str, str | None] = dict(trace.made) if trace is not None else {}
        self._is_traced = trace is not None
        self.value = self._parsed()
        if not isinstance(self.value, dict):
            raise self._damaged("it holds no object")

    def get(self, *place: str | int) -> Any:
        """The value at a place; None where nothing is."""
        found = self.value
        for key in place:
            if isinstance(key, int):
                found = found[key] if isinstance(found, list) and key < len(found) else None
            else:
                found = found.get(key) if isinstance(found, dict) else None
        return found

    def put(self, place: json_text.Path, value: Any) -> None:
        """Set what stands at a place, and note what was missing on the way."""
        if self.get(*place) is None:
            self._note_what_is_missing(place)
        self._set(lambda text: json_text.put(text, place, value))

    def drop(self, place: json_text.Path) -> None:
        """Take out what stands at a place, and what was only made to hold it."""
        for depth in range(len(place), 0, -1):
            above = _name(place[: depth - 1])
            blanks = self._made.get(above) or ""
            part = place[:depth]
            self._set(lambda text, part=part, blanks=blanks: json_text.drop(text, part, blanks=blanks))  # type: ignore[misc]
            was_made = self._made[above] is None if above in self._made else not self._is_traced
            if self.get(*place[: depth - 1]) or not was_made:
                return

    def change(self, locked_by: Path | None = None) -> Change:
        """What is to be written."""
        after: bytes | None = (self._bom + self._text).encode("utf-8")
        takes_folder = False
        if self.before is None and not self._text:
            after = None
        elif not self.value and _BLANK in self._made:
            after = (self._bom + (self._made[_BLANK] or "")).encode("utf-8")
        elif not self.value and self._made.get(_FILE, "") is None:
            after, takes_folder = None, _FOLDER in self._made
        return Change(self.path, self.before, after, Trace(self._made), takes_folder, locked_by)

    def _note_what_is_missing(self, place: json_text.Path) -> None:
        for known in (_FILE, _FOLDER, _BLANK):
            self._made.pop(known, None)
        if self.before is None:
            self._made[_FILE] = None
            if not self.path.parent.exists():
                self._made[_FOLDER] = None
        elif not self._text.strip():
            self._made[_BLANK] = self._text
        for depth in range(len(place)):
            part = place[:depth]
            if depth and self.get(*part) is None:
                self._made[_name(part)] = None
                continue
            blanks = json_text.inside(self._text, part) if self._text.strip() else None
            if blanks is not None and not blanks.strip():
                self._made[_name(part)] = blanks

    def _set(self, edit: Callable[[str], str]) -> None:
        try:
            self._text = edit(self._text)
        except json_text.NoJson as problem:
            raise self._damaged(str(problem)) from problem
        self.value = self._parsed()

    def _parsed(self) -> Any:
        try:
            return json_text.parsed(self._text)
        except json_text.NoJson as problem:
            raise self._damaged(str(problem)) from problem

    def _damaged(self, why: str) -> ConfigError:
        return ConfigError(
            f"{self.path} is damaged: {why}. Nothing was changed: mend it, or move it away, and try again."
        )


def _name(place: json_text.Path) -> str:
    return "/".join(map(str, place))
