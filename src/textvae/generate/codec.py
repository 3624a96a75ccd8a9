"""Texts to codes and back: encoding, decoding, samples, and paths between sentences."""

from collections.abc import Iterable, Iterator
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from numpy.typing import ArrayLike
from torch import Tensor

from textvae.errors import RequestError
from textvae.files import file_digest
from textvae.generate.decoding import Decoding, beams, generate
from textvae.generate.reading import Reader, Seen, batches, codes_of, encoded_together, one_code
from textvae.inference import evaluating
from textvae.model import TextVAE
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import Posterior, joined, mapped
from textvae.parts.priors import Prior, arc, line
from textvae.run import Run
from textvae.text.readers import require_texts
from textvae.text.tokenizers import EOS

# Codes drawn from the prior at once, each with a stream of random numbers of its own.
DRAWN = 8192
# Padded tokens scored at once, each of which takes the logits of a whole vocabulary.
SCORED = 4096
GREEDY = Decoding()
PATHS = ("linear", "spherical")
UNKNOWN_ENDS = "the model knows no word of either, so there is no path; give sentences with words that it knows"


class Codec:
    """A run's model with its tokenizer: what all that works on codes and texts is made of.

    Codes are float32 arrays of shape (n, latent). What is random depends on `seed` and on a sentence's place alone:
    of twenty samples the first ten are the ten of the same seed. Texts have at most `max_length` tokens, like those
    that the model was trained on: longer ones are cut, generated ones end there.

    Texts of a model of windows are pieces of running text of several lines: generated ones have exactly `window`
    tokens, line breaks among them, and those that are given may be shorter.
    """

    def __init__(self, run: Run, model: TextVAE) -> None:
        self.run, self.model, self.tokenizer = run, model.eval(), run.tokenizer
        self.latent = run.settings.model.latent
        self.window = run.settings.data.window
        self.max_length = self.window or run.settings.data.max_length
        self._reader = Reader(self.tokenizer, self.max_length, windows=self.window is not None)

    @cached_property
    def identity(self) -> str:
        """The SHA-256 of the weights, which files of codes and directions carry."""
        return file_digest(self.run.folder / "model.safetensors")

    def posterior(self, texts: Iterable[str]) -> Posterior | None:
        """q(z|x) of each text, in their order, on the CPU; its `mean` is (n, latent). None without texts.

        What is random in a posterior itself, such as the components of a semi-implicit one, is drawn once, the same
        for all texts, so that a code is of its text alone. Draws of q(z|x) are those of `sources.posterior_draws`.

        Texts that are too long are cut, with one warning; words that the model does not know become the unknown
        word, with one warning for texts that have no other.

        Raises:
            RequestError: for an empty text, one that is no text, and by a language model, which has no codes.
        """
        return self._posterior(self.read(texts))

    def encode(self, texts: Iterable[str]) -> Float32[np.ndarray, "n latent"]:
        """The code of each text, in their order: the mean of its posterior.

        Raises:
            RequestError: as `posterior`.
        """
        return self._means(texts).numpy()

    def encode_counted(self, texts: Iterable[str]) -> tuple[Float32[np.ndarray, "n latent"], Seen]:
        """The codes of texts as `encode` gives them, and what is to be warned of, without a warning.

        Raises:
            RequestError: as `posterior`.
        """
        self._prior()
        ids, seen = self.token_ids(texts)
        return self.means_of(ids).numpy(), seen

    def decode(
        self, z: ArrayLike | Tensor, decoding: Decoding = GREEDY, seed: int = 0, begin: int = 0
    ) -> list[str]:
        """Decode codes: the text of each; `z` is (n, latent).

        The first code is number `begin` of those that are decoded with this seed, so that codes decoded in several
        calls have the texts that they have in one.

        Raises:
            RequestError: for codes of another shape or not finite, and by a language model, which has none.
        """
        self._prior()
        return self._texts(codes_of(z, self.latent), decoding, seed, begin=begin)

    def n_best(
        self, z: ArrayLike | Tensor | None, decoding: Decoding, n: int, rows: int = 1
    ) -> list[list[tuple[str, float]]]:
        """The `n` best texts that a beam finds for each code, or `rows` times without codes, the best first.

        Beside each stands log p(text|z) in nats, end mark counted.

        Raises:
            RequestError: as `decode`, for another decoding, and where the beam has fewer than n texts.
        """
        if decoding.name != "beam":
            raise RequestError(f"n_best = {n}: {decoding.name} decoding finds one text; decode by 'beam'")
        if not 1 <= n <= decoding.beam:
            raise RequestError(f"n_best = {n}: must be 1 to {decoding.beam}, the size of the beam")
        codes = None if z is None or self.model.prior is None else codes_of(z, self.latent)
        with evaluating(self.model):
            model, end, length = self.model, self.window is None, decoding.max_length or self.max_length
            found = beams(model.decoder, codes, decoding, length, rows=rows, code=model.code, end=end)
        return [[(self._written(text.ids), text.log_prob) for text in texts[:n]] for texts in found]

    def sample(self, n: int, seed: int = 0, decoding: Decoding = GREEDY, begin: int = 0) -> list[str]:
        """Generate `n` sentences from codes drawn from the prior, or by a language model: numbers `begin` and up.

        Without codes greedy decoding gives the same sentence n times: decode a language model's by sampling.

        Raises:
            RequestError: when n is negative.
        """
        if n < 0:
            raise RequestError(f"n = {n}: must be 0 or more")
        if self.model.prior is None:
            return self._texts(None, decoding, seed, n, begin)
        return self._texts(self._drawn(n, seed, begin), decoding, seed, begin=begin)

    def nll(self, texts: Iterable[str]) -> Float64[np.ndarray, " n"]:
        """-log p(text) of each text by a language model, in nats, end mark counted: exact, and finite.

        Texts are scored as a whole, also those longer than the ones that the model was trained on. Words that it
        does not know count as the unknown word. A text without words, as models may write, has its end mark.

        Raises:
            RequestError: for what is no text, and by a model with codes or of windows.
        """
        self.require_likelihood()
        self.require_whole_texts()
        texts = require_texts(texts)
        found = torch.zeros(len(texts), dtype=torch.float64)
        with evaluating(self.model):
            for batch in batches([[*ids, EOS] for ids in self._reader.lines(texts)], SCORED):
                log_px = self.model.log_px(batch.to(self.model.device), None)
                found[batch.index] = -log_px.double().sum(-1)[0].cpu()
        return found.numpy()

    def path(
        self,
        a: str | ArrayLike | Tensor,
        b: str | ArrayLike | Tensor,
        steps: int = 9,
        kind: str | None = None,
    ) -> Float32[np.ndarray, "steps latent"]:
        """`steps` codes from a to b, both included; a and b are texts or codes of (latent,).

        The path is the prior's own, a line but for a prior on the sphere, or by its `kind` a `linear` one, or
        a `spherical` one: at even angles from one direction to the other, the length changing evenly too.

        Raises:
            RequestError: for fewer than 2 steps, equal ends, an unknown kind, and as `posterior` and `decode` for
                the ends.
        """
        prior = self._prior()
        if kind not in (None, *PATHS):
            raise RequestError(f"path = {kind!r}: unknown; known: {', '.join(PATHS)}")
        if steps < 2:
            raise RequestError(f"steps = {steps}: must be 2 or more, both ends included")
        first, last = (self.end(end, name).to(self.model.device) for end, name in ((a, "a"), (b, "b")))
        if torch.equal(first, last):
            if isinstance(a, str) and isinstance(b, str) and not self.knows(a) and not self.knows(b):
                raise RequestError(f"a and b: {UNKNOWN_ENDS}")
            raise RequestError("a and b: have the same code, so there is no path; give two different ends")
        if kind == "spherical" and not (first.any() and last.any()):
            raise RequestError("path = 'spherical': an end is zero, which has no direction; take the linear path")
        of_kind = {None: prior.path, "linear": line, "spherical": arc}[kind]
        with evaluating(self.model):
            return of_kind(first, last, steps).cpu().numpy()

    def interpolate(
        self,
        a: str | ArrayLike | Tensor,
        b: str | ArrayLike | Tensor,
        steps: int = 9,
        decoding: Decoding = GREEDY,
        seed: int = 0,
        kind: str | None = None,
    ) -> list[str]:
        """The texts along the path from a to b, both ends decoded too; a and b are texts or codes of (latent,).

        Raises:
            RequestError: as `path`.

        Source: Bowman et al. 2016, section 6.3.
        """
        return self.decode(self.path(a, b, steps, kind), decoding, seed)

    def interpolate_prior(self, seed: int = 0, steps: int = 9, decoding: Decoding = GREEDY) -> list[str]:
        """The texts along the path between two draws of the prior: the codes of the first two samples of `seed`.

        Raises:
            RequestError: for fewer than 2 steps, and by a language model, which has no codes.
        """
        self._prior()
        a, b = self._drawn(2, seed)
        return self.interpolate(a, b, steps, decoding, seed)

    def draw(self, n: int, seed: int = 0, begin: int = 0) -> Float32[np.ndarray, "n latent"]:
        """The codes that `sample` decodes: `n` draws of the prior, numbers `begin` and up.

        Raises:
            RequestError: when n is negative, and by a language model, which has no codes.
        """
        self._prior()
        if n < 0:
            raise RequestError(f"n = {n}: must be 0 or more")
        return self._drawn(n, seed, begin).numpy()

    def means_of(self, ids: list[list[int]]) -> Float[Tensor, "n latent"]:
        """The posterior means of texts that are tokens already, end marks included."""
        means = torch.zeros(len(ids), self.latent)
        for index, posterior in self._encoded(ids):
            means[index] = posterior.mean.cpu()
        return means

    def _posterior(self, ids: list[list[int]]) -> Posterior | None:
        """q(z|x) of texts that are tokens already."""
        parts = [(index, mapped(posterior, Tensor.cpu)) for index, posterior in self._encoded(ids)]
        if not parts:
            return None
        order = torch.cat([index for index, _ in parts]).argsort()
        return mapped(joined([posterior for _, posterior in parts]), lambda rows: rows[order])

    def _encoded(self, ids: list[list[int]]) -> Iterator[tuple[Tensor, Posterior]]:
        """The places of some texts, and their posteriors: batch by batch."""
        with evaluating(self.model):
            for batch in encoded_together(ids, self.model.device):
                posterior = self.model.encode(batch.to(self.model.device))
                assert posterior is not None
                yield batch.index, posterior

    def _means(self, texts: Iterable[str]) -> Float[Tensor, "n latent"]:
        """The posterior means of texts."""
        return self.means_of(self.read(texts))

    def require_likelihood(self) -> None:
        """Refuse a model with codes.

        Raises:
            RequestError: by such a model.
        """
        if self.model.prior is not None:
            raise RequestError(
                f"{self.run.folder}: has latent codes, so the likelihood of a text is not known exactly; "
                "give the run of a language model (--method language-model)"
            )

    def require_whole_texts(self) -> None:
        """Refuse a model of windows.

        Raises:
            RequestError: by such a model.
        """
        if self.window is not None:
            raise RequestError(
                f"{self.run.folder}: is a model of pieces of running text, not of whole texts; "
                "train one without data.window"
            )

    def _prior(self) -> Prior:
        """The prior; a language model is refused."""
        if self.model.prior is None:
            raise RequestError(f"{self.run.folder}: is a language model: it has no latent code")
        return self.model.prior

    def _drawn(self, n: int, seed: int, begin: int = 0) -> Float[Tensor, "n latent"]:
        """Draws of the prior, on the CPU; the noise of each by its number, so that fewer are the first of more."""
        pieces = [self._some_drawn(range(begin, begin + n)[at : at + DRAWN], seed) for at in range(0, n, DRAWN)]
        return torch.cat(pieces) if pieces else torch.zeros(0, self.latent)

    def _some_drawn(self, numbers: range, seed: int) -> Float[Tensor, "n latent"]:
        # One stream for each draw, which goes on from call to call: a prior may ask for noise several times.
        of_each = sentence_noise(seed, torch.arange(numbers.start, numbers.stop), self.model.device)

        def noise(samples: int, size: int) -> Float[Tensor, "sample 1 size"]:
            assert samples == len(numbers)
            return of_each(1, size).transpose(0, 1)

        with evaluating(self.model):
            return self._prior().sample(len(numbers), noise).cpu()

    def _texts(self, z: Tensor | None, decoding: Decoding, seed: int, rows: int = 1, begin: int = 0) -> list[str]:
        with evaluating(self.model):
            model, end, length = self.model, self.window is None, decoding.max_length or self.max_length
            how = {"rows": rows, "code": model.code, "end": end, "begin": begin}
            ids = generate(model.decoder, z, decoding, length, seed, **how)  # type: ignore[arg-type]
        return self.tokenizer.decode_batch(ids) if end else [self.tokenizer.decode_lines(row) for row in ids]

    def _written(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids) if self.window is None else self.tokenizer.decode_lines(ids)

    def read(self, texts: Iterable[str]) -> list[list[int]]:
        """The tokens of texts to be encoded, with a warning if texts were cut or are unknown.

        Raises:
            RequestError: as `posterior`.
        """
        self._prior()
        ids, seen = self.token_ids(texts)
        self.warn_of(seen, 5)
        return ids

    def knows(self, text: str) -> bool:
        """Whether the model knows a word of a text.

        Raises:
            RequestError: as `token_ids`.
        """
        return not self.token_ids([text])[1].unknown

    def token_ids(self, texts: Iterable[str]) -> tuple[list[list[int]], Seen]:
        """The tokens of texts as the model reads them, brought to the form that the training text had.

        Then how many were too long and cut, and how many have no known word. End marks are among the tokens.

        Raises:
            RequestError: for an empty text, and one that is no text.
        """
        return self._reader.read(texts)

    def warn_of(self, seen: Seen, level: int = 3) -> None:
        """Warn, `level` calls up, if some texts were cut because they are too long, or have no known word."""
        seen.warn(self.max_length, f"data.{'max_length' if self.window is None else 'window'}", level + 1)

    def end(self, end: str | ArrayLike | Tensor, name: str) -> Float[Tensor, " latent"]:
        """One end of a path: the code itself, alone or as the only one of an array, or that of a text.

        Raises:
            RequestError: as `posterior` and `decode`, calling it by its `name`.
        """
        if isinstance(end, str):
            return self._means([end])[0]
        return one_code(end, self.latent, name)
