"""The terms of the objective; `TERMS` names them as settings do."""

from typing import Any

from textvae.extensions import Registry, derived_from
from textvae.objective.terms.autoencoder import Autoencoder
from textvae.objective.terms.auxiliary import Auxiliary
from textvae.objective.terms.bow import Bow
from textvae.objective.terms.capacity import Capacity, CapacityMax
from textvae.objective.terms.free_bits import FreeBits, FreeBitsTotal
from textvae.objective.terms.inferred_labels import InferredLabels
from textvae.objective.terms.kl import Kl
from textvae.objective.terms.lagrangian import Lagrangian
from textvae.objective.terms.mmd import Mmd
from textvae.objective.terms.mu_forcing import MuForcing
from textvae.objective.terms.multi_rate import MultiRate
from textvae.objective.terms.selected_kl import SelectedKl
from textvae.objective.terms.term import Term


def _check(entry: Any) -> str | None:
    """Return why an object cannot be a term, or None."""
    reason = derived_from(Term)(entry)
    return "it does not define __call__" if reason is None and entry.__call__ is Term.__call__ else reason


TERMS: Registry[type[Term]] = Registry(
    "textvae.terms",
    {
        "kl": Kl,
        "free-bits": FreeBits,
        "free-bits-total": FreeBitsTotal,
        "capacity": Capacity,
        "capacity-max": CapacityMax,
        "mmd": Mmd,
        "selected-kl": SelectedKl,
        "multi-rate": MultiRate,
        "lagrangian": Lagrangian,
        "autoencoder": Autoencoder,
        "mu-forcing": MuForcing,
        "bow": Bow,
        "auxiliary": Auxiliary,
        "inferred-labels": InferredLabels,
    },
    _check,
)
