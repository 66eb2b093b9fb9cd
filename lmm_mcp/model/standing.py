"""How things stand with the memory model, for `lmm status` and `lmm doctor`: a few file stats, no torch."""

from dataclasses import dataclass

from lmm_mcp import artifacts, training_runs
from lmm_mcp.domain.wording import counted
from lmm_mcp.paths import Home


@dataclass(frozen=True, slots=True)
class Standing:
    """What there is, what serves, what was left undone."""

    serves: str
    """Name of the version, '' where recall goes on without one."""
    base: str
    """What that version was trained on top of."""
    num_versions: int
    unclean: tuple[str, ...]
    """Versions that were trained on something that was forgotten since."""
    torn: tuple[str, ...]
    """Folders of versions that cannot be read."""
    stopped_at: str
    """Station at which the newest training run stands, '' where none is unfinished."""
    max_sentences: int = 0
    """Of its own that the version which serves may write, since those it wrote when it was judged passed."""

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was ever trained here."""
        return not (self.num_versions or self.stopped_at)


def look(home: Home) -> Standing:
    """Look. Raises OSError where the folder of versions cannot be listed."""
    found = artifacts.versions(home)
    served = artifacts.served(home)
    unfinished = training_runs.unfinished(home)
    return Standing(
        serves=served.name if served else "",
        base=served.manifest.base if served else "",
        num_versions=len(found),
        unclean=tuple(each.name for each in found if isinstance(each, artifacts.Version) and each.unclean),
        torn=tuple(each.name for each in found if isinstance(each, artifacts.Torn)),
        stopped_at=unfinished[1].next_station if unfinished else "",
        max_sentences=served.manifest.max_sentences if served else 0,
    )


def told(now: Standing, *, is_training: bool, wanted_sentences: int = 0) -> str:
    """The same in one line; '' where there is nothing to tell. `wanted_sentences`: how many the settings would have it write."""
    if now.is_untouched:
        return ""
    parts = [f"{now.serves} serves (on {now.base})" if now.serves else "none serves; recall goes on without one"]
    if now.serves and wanted_sentences and not now.max_sentences:
        parts.append("it only chooses lines: sentences of its own did not pass when it was judged")
    if now.num_versions > bool(now.serves):
        parts.append(f"{counted(now.num_versions, 'version')} (`lmm model list`)")
    if now.unclean:
        parts.append(f"{len(now.unclean)} trained on what was forgotten since")
    if is_training:
        parts.append("one is trained now (`lmm train log`)")
    elif now.stopped_at:
        parts.append(f"a training stands before {now.stopped_at} (`lmm train resume`)")
    return ", ".join(parts)
