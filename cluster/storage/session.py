"""Where a run's Ray is, as its driver wrote it into the run's folder."""

import json
from dataclasses import dataclass

from cluster.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Where a run's Ray is: host:port of the head node, and the job's id there."""

    address: str
    job: str

    def write(self, folder: RunFolder) -> None:
        """Write it into the run's folder."""
        folder.session.write_text(json.dumps({"address": self.address, "job": self.job}) + "\n")

    @staticmethod
    def read(folder: RunFolder) -> "Session | None":
        """Return what the folder says; `None` for a run in one process, or with a driver on another machine."""
        try:
            data = json.loads(folder.session.read_text())
            return Session(address=str(data["address"]), job=str(data["job"]))  # a later version may write more
        except (OSError, ValueError, TypeError, KeyError):
            return None
