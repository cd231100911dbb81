"""The errors of a replay."""


class Difference(Exception):
    """A replay differs from the run's record; the message is a sentence about the first place where it does."""


class NotReplayable(ValueError):
    """A run cannot be replayed; the message says why."""
