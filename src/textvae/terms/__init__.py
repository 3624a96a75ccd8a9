"""The terms of the objective, one file each; `TERMS` names them as settings do."""

from textvae.terms.kl import Kl
from textvae.terms.mu_forcing import MuForcing
from textvae.terms.term import Term

TERMS: dict[str, type[Term]] = {"kl": Kl, "mu-forcing": MuForcing}
