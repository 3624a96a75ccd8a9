"""Conditions as users give them: labels by column, for all texts or one for each."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from textvae.errors import RequestError
from textvae.model import TextVAE
from textvae.run import Run
from textvae.run.records import label_names
from textvae.text.conditions import Labels

# Labels by column, one value or one for each text; or their numbers.
Condition = Mapping[str, object] | Labels


def labels_of(run: Run, condition: Condition, rows: int = 1) -> Labels:
    """Return a condition as numbers of labels, one row for each of `rows` texts.

    Raises:
        RequestError: For a model without conditions, a condition that does not fit its columns and values, and
            another number of rows.
    """
    names = label_names(run.environment)
    if not names:
        raise RequestError(
            f"condition: {run.folder} has none; train a conditional model with --condition-on COLUMN"
        )
    labels = condition if isinstance(condition, Labels) else names.labels(condition)
    given = len(labels.values)
    if given == rows:
        return labels
    if given != 1:
        raise RequestError(f"condition: has {given:,} values for {rows:,} texts; give one for all, or one for each")
    return labels.at(torch.zeros(rows, dtype=torch.long))


class Conditioned(NamedTuple):
    """Codes with the vectors of their conditions, a row for each, and what parts them again for the decoder."""

    codes: Tensor | None
    code: Callable[[Tensor], Tensor]


def conditioned(model: TextVAE, z: Tensor | None, labels: Labels | None, rows: int) -> Conditioned:
    """Join codes and conditions, so that whatever picks rows of codes picks those of the conditions with them.

    Args:
        model: The model.
        z: Codes (rows, latent); None for a language model.
        labels: Conditions of `rows`; None for the one that holds for all, or none.
        rows: Number of texts.
    """
    if model.conditioning is None:
        return Conditioned(z, model.code)
    contexts = model.conditioning.contexts(model.fixed if labels is None else labels, rows)
    latent = 0 if z is None else z.shape[1]
    codes = contexts if z is None else torch.cat([z.to(contexts), contexts], dim=1)
    return Conditioned(codes, lambda both: model.code(both[..., :latent], both[..., latent:]))
