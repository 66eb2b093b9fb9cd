"""Every error this project raises on purpose. Messages carry the numbers and the next step.

LmmError
├── ConfigError          a setting is wrong, unknown, or not allowed in a project's own file
├── BadInput             a question, id, date or path that cannot be used as given
├── HomeError            LMM_HOME cannot be used: missing rights, no space, not a folder
├── EngineError          no engine answers for this memory home, and none could be started
├── StoreError
│   ├── StoreTooNew      written by a newer version of this program
│   ├── StoreLocked      another process holds the write lock
│   └── MixedEmbeddings  vectors of another embedder lie in the store
├── ArchiveError         an archive file is damaged or missing
├── EmbedderError        a model cannot be found, read or trusted
├── ModelError           a base model or an adapter cannot be found, read, or does not fit
├── TrainingError        a training run cannot start or go on
│   └── TrainingBusy     another one is at it
└── PromptError          a prompt is missing, or its names do not match
"""


class LmmError(Exception):
    """The root: catch this at an entry point and print its message."""


class ConfigError(LmmError):
    """A setting is wrong, unknown, or not allowed where it stands."""


class BadInput(LmmError):
    """A question, id, date or path cannot be used as given."""


class HomeError(LmmError):
    """The memory home cannot be used: missing rights, no space, not a folder."""


class EngineError(LmmError):
    """No engine answers for this memory home, and none could be started."""


class StoreError(LmmError):
    """The store cannot do what was asked."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of this program."""


class StoreLocked(StoreError):
    """Another process holds the write lock."""


class MixedEmbeddings(StoreError):
    """Vectors of another embedder lie in the store."""


class ArchiveError(LmmError):
    """An archive file is damaged or missing."""


class EmbedderError(LmmError):
    """A model cannot be found, read or trusted."""


class ModelError(LmmError):
    """A base model or an adapter cannot be found, read, or does not fit."""


class TrainingError(LmmError):
    """A training run cannot start or go on."""


class TrainingBusy(TrainingError):
    """Another training run is at it."""


class PromptError(LmmError):
    """A prompt is missing, or its names do not match the inputs."""
