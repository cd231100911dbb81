"""Where a run's Ray is, as its driver has noted it in the run's folder."""

import json
from dataclasses import dataclass

from cluster.storage.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """Where a run's Ray is, as its driver has noted it: host:port of the head, and the job's number there."""

    address: str
    job: str

    def write(self, folder: RunFolder) -> None:
        """Note it in the run's folder."""
        folder.session.write_text(json.dumps({"address": self.address, "job": self.job}) + "\n")

    @staticmethod
    def read(folder: RunFolder) -> "Session | None":
        """What was noted there; `None` for a run in one process, or one that another machine drives."""
        try:
            return Session(**json.loads(folder.session.read_text()))
        except (OSError, ValueError, TypeError):
            return None
