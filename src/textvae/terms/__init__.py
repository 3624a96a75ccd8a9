"""The terms of the objective; `TERMS` names them as settings do."""

from textvae.terms.autoencoder import Autoencoder
from textvae.terms.auxiliary import Auxiliary
from textvae.terms.bow import Bow
from textvae.terms.capacity import Capacity, CapacityMax
from textvae.terms.free_bits import FreeBits, FreeBitsTotal
from textvae.terms.kl import Kl
from textvae.terms.lagrangian import Lagrangian
from textvae.terms.mmd import Mmd
from textvae.terms.mu_forcing import MuForcing
from textvae.terms.term import Term

TERMS: dict[str, type[Term]] = {
    "kl": Kl,
    "free-bits": FreeBits,
    "free-bits-total": FreeBitsTotal,
    "capacity": Capacity,
    "capacity-max": CapacityMax,
    "mmd": Mmd,
    "lagrangian": Lagrangian,
    "autoencoder": Autoencoder,
    "mu-forcing": MuForcing,
    "bow": Bow,
    "auxiliary": Auxiliary,
}
