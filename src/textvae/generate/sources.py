"""Sources of codes beside prior draws and posterior means: posterior draws and the prior's tails."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from textvae.errors import RequestError
from textvae.generate.codec import Codec
from textvae.generate.reading import encoded_together
from textvae.inference import evaluating
from textvae.parts.noise import mixed, sentence_noise

# Random stream of the map into the tails; those of the codes have a number of 0 or more in its place.
_STREAM = -2


def posterior_draws(
    trained: Codec, texts: Sequence[str], samples: int, seed: int = 0, begin: int = 0
) -> Float32[np.ndarray, "n samples latent"]:
    """Return `samples` independent draws from the posterior of each text.

    Random parameters of the posterior are drawn again for every code: each code of a semi-implicit posterior has
    its own component. A draw depends on the seed, its number and the text's position alone, which is `begin` for
    the first text. All draws of a point posterior are its one code.

    Raises:
        RequestError: As `Trained.posterior`, and for fewer than one sample.

    References:
        Bowman et al. 2016, section 6.2 and Table 7.
    """
    if samples < 1:
        raise RequestError(f"samples = {samples}: must be 1 or more")
    ids, device = trained.read(texts), trained.model.device
    codes = torch.zeros(len(ids), samples, trained.latent)
    with evaluating(trained.model):
        for batch in encoded_together(ids, device):
            places = batch.index + begin
            noises = (sentence_noise(mixed(seed, draw), places, device) for draw in range(samples))
            codes[batch.index] = trained.model.draws(batch.to(device), noises).transpose(0, 1).cpu()
    return codes.numpy()


def tail_draws(
    trained: Codec, n: int, seed: int = 0, bound: float | None = None, begin: int = 0
) -> Float32[np.ndarray, "n latent"]:
    """Return `n` draws from a standard normal prior, all mapped towards its tails by one random linear map.

    The draws are those of `Trained.draw`, numbers `begin` and up; the map is `tail_map` of the same seed.

    Raises:
        RequestError: For another prior, a negative n, and as `tail_map`.

    References:
        Bowman et al. 2016, section 6.1 and Table 6.
    """
    codes = trained.draw(n, seed, begin)  # refuses a language model
    prior = trained.run.settings.model.prior
    if not prior.standard:
        raise RequestError(
            f"{trained.run.folder}: tail draws are of a standard normal prior, and this one is {prior.label}"
        )
    return codes @ tail_map(trained.latent, seed, bound).numpy().T


def tail_map(latent: int, seed: int = 0, bound: float | None = None) -> Float32[Tensor, "latent latent"]:
    """Return a matrix with elements from U(-bound, bound); the default bound preserves volumes on average.

    Raises:
        RequestError: If the bound is not above 0.
    """
    bound = volume_preserving_bound(latent) if bound is None else bound
    if not 0.0 < bound < math.inf:
        raise RequestError(f"bound = {bound}: must be above 0, and finite")
    generator = torch.Generator().manual_seed(mixed(seed, _STREAM))
    return (2 * torch.rand(latent, latent, generator=generator) - 1) * bound


def volume_preserving_bound(latent: int) -> float:
    """Return the c for which a matrix with elements from U(-c, c) preserves volumes: E log |det| = 0.

    The expectation is that of normal elements. c is about sqrt(3 e / latent), and the map then stretches by up to
    about 2 sqrt(e) = 3.3, whatever the size. The paper states for its c = 0.1 that volumes are preserved
    approximately and eigenspaces stretched "by up to a factor of 4": that holds for codes of some 800 numbers, and
    for smaller ones only with a larger c.

    >>> round(volume_preserving_bound(815), 3), round(volume_preserving_bound(32), 2)
    (0.1, 0.52)
    """
    degrees = torch.arange(1, latent + 1, dtype=torch.float64)
    # A normal matrix's |det| is a product of independent chi variables (Goodman 1963).
    log_det = 0.5 * (torch.digamma(degrees / 2) + math.log(2)).sum().item()
    return math.sqrt(3) * math.exp(-log_det / latent)
