"""Which start of a run in an object store a working copy on this machine belongs to."""

import json
from dataclasses import dataclass
from pathlib import Path

from child_trainer.atomic_file import replace_file
from cluster.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Belonging:
    """What a working copy says of itself.

    Attributes:
        owners: the claims that it may belong to: the last one, and the one that was to come when its driver died.
        seen: tells the objects that it was restored from; `None` once a driver has worked in it.
    """

    owners: tuple[str, ...]
    seen: str | None

    @staticmethod
    def read(folder: RunFolder) -> "Belonging | None":
        """What the folder says, `None` if it says nothing."""
        try:
            found = json.loads(_belonging(folder).read_text())
            return Belonging(owners=tuple(found["owners"]), seen=found["seen"])
        except (OSError, ValueError, KeyError):
            return None

    def write(self, folder: RunFolder) -> None:
        """Make the folder say so, durably."""
        content = json.dumps({"owners": self.owners, "seen": self.seen}).encode()
        replace_file(_belonging(folder), content, durable=True)


def _belonging(folder: RunFolder) -> Path:
    return folder.path / "belonging.json"
