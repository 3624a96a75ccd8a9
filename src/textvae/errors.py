"""The two ways in which a request can end badly; the command line turns them into exit codes 2 and 1."""


class RequestError(ValueError):
    """The request was wrong: says the place, the value given and what would do. Exit code 2."""


class WorkError(RuntimeError):
    """The request was right and the work itself failed: a full disk, a diverged loss. Exit code 1."""
