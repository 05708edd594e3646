"""What can go wrong with a module or a setting, without a word about HTTP.

LetheError
├── InvalidInput          a field, the value it had and what is accepted
│   ├── ModuleInvalid         not a forget module, or one that breaks the format
│   │   ├── ModuleCorrupt         a file is not the one that was recorded
│   │   ├── ModuleUnsigned        a module without the signature that is demanded
│   │   └── SignatureInvalid      a signature by no trusted key, or of other files
│   ├── ModuleIncompatible    a sound module that does not fit the models being served
│   └── SourceForbidden       a path outside the directories from which modules may come
└── ModuleNotFound        a reference that names no module of the catalog
"""

from __future__ import annotations


class LetheError(Exception):
    """Base of every error that Lethe raises on purpose; its text is meant for a person."""


class InvalidInput(LetheError):
    """A field holds a value that is not accepted."""

    def __init__(self, field: str, value: object, accepted: str) -> None:
        super().__init__(f"{field}: got {value!r}; accepted: {accepted}")
        self.field = field
        self.value = value
        self.accepted = accepted


class ModuleInvalid(InvalidInput):
    """A directory that is no forget module, or one that breaks the format."""


class ModuleCorrupt(ModuleInvalid):
    """A file of a module is missing, added or changed."""


class ModuleUnsigned(ModuleInvalid):
    """A module without a signature, where one is demanded."""


class SignatureInvalid(ModuleInvalid):
    """A signature that no trusted key made, or one of other files."""


class ModuleIncompatible(InvalidInput):
    """A sound module that does not fit the large model, the small model or the engine's limits."""


class SourceForbidden(InvalidInput):
    """A path outside the directories from which modules may come."""


class ModuleNotFound(LetheError):
    """A reference that names no module of the catalog."""

    def __init__(self, ref: str, known: list[str]) -> None:
        super().__init__(f"module {ref!r} is not in the catalog; known: {', '.join(known) or 'none'}")
        self.ref = ref
        self.known = known
