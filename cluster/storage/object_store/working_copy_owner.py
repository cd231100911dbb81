"""Which start of a run in an object store owns the working copy on this machine."""

import json
from dataclasses import dataclass
from pathlib import Path

from child_trainer.atomic_file import replace_file
from cluster.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkingCopyOwner:
    """What a working copy records about itself, in its file `belonging.json`.

    Attributes:
        owners: owners of the leases to which it may belong: the last lease, and the one that its driver was about to
            acquire when it died.
        seen: fingerprint of the objects from which the copy was restored; `None` once a driver has worked in it.
    """

    owners: tuple[str, ...]
    seen: str | None

    @staticmethod
    def read(folder: RunFolder) -> "WorkingCopyOwner | None":
        """Return what the folder records, `None` if it records nothing."""
        try:
            fields = json.loads(_file(folder).read_text())
            return WorkingCopyOwner(owners=tuple(fields["owners"]), seen=fields["seen"])
        except (OSError, ValueError, KeyError):
            return None

    def write(self, folder: RunFolder) -> None:
        """Record this in the folder, durably."""
        content = json.dumps({"owners": self.owners, "seen": self.seen}).encode()
        replace_file(_file(folder), content, durable=True)


def _file(folder: RunFolder) -> Path:
    return folder.path / "belonging.json"
