"""Conditions as users give them: labels by column, for all texts or one for each, and the turns before a text."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from textvae.errors import RequestError
from textvae.model import TextVAE
from textvae.run import Run
from textvae.run.records import label_names
from textvae.text.conditions import Labels, Turns

# Conditions that are read at once.
READ = 512
# Labels by column, one value or one for each text; or a batch of labels, or of turns.
Condition = Mapping[str, object] | Labels | Turns


def rows_of(run: Run, condition: Condition, rows: int = 1) -> Labels | Turns:
    """Return a condition as a batch has it, one row for each of `rows` texts.

    Raises:
        RequestError: For a model without conditions, a condition that does not fit its columns and values, and
            another number of rows.
    """
    names = label_names(run.environment)
    if not names and not isinstance(condition, Turns):
        raise RequestError(
            f"condition: {run.folder} has none; train a conditional model with --condition-on COLUMN"
        )
    found = condition if isinstance(condition, Labels | Turns) else names.labels(condition)
    given = len(found[0])
    if given == rows:
        return found
    if given != 1:
        raise RequestError(f"condition: has {given:,} values for {rows:,} texts; give one for all, or one for each")
    return found.at(torch.zeros(rows, dtype=torch.long))


class Conditioned(NamedTuple):
    """Codes with the vectors of their conditions, a row for each, and what parts them again for the decoder."""

    codes: Tensor | None
    code: Callable[[Tensor], Tensor]


def conditioned(model: TextVAE, z: Tensor | None, condition: Labels | Turns | None, rows: int) -> Conditioned:
    """Join codes and conditions, so that whatever picks rows of codes picks those of the conditions with them.

    Args:
        model: The model.
        z: Codes (rows, latent); None for a language model.
        condition: Conditions of `rows`; None for the one that holds for all, or none.
        rows: Number of texts.
    """
    if model.conditioning is None:
        return Conditioned(z, model.code)
    if condition is None:
        contexts = model.conditioning.contexts(model.fixed, rows)
    else:
        some = torch.arange(rows).split(READ)
        contexts = torch.cat([model.conditioning.contexts(condition.at(own), len(own)) for own in some])
    latent = 0 if z is None else z.shape[1]
    codes = contexts if z is None else torch.cat([z.to(contexts), contexts], dim=1)
    return Conditioned(codes, lambda both: model.code(both[..., :latent], both[..., latent:]))
