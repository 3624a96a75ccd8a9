"""A term whose package is not installed."""

from pydantic import ConfigDict

from textvae.objective.terms.term import Term


class Absent(Term):
    """A term of a run whose package is not installed: its table as it is written.

    A run with it can be used, because codes, samples and scores need no objective, but not trained.
    """

    model_config = ConfigDict(extra="allow")
