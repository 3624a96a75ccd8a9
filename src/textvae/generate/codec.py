"""Texts to codes and back: encoding, decoding, samples, and paths between sentences."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64
from numpy.typing import ArrayLike
from torch import Tensor

from textvae.errors import RequestError
from textvae.files import file_digest
from textvae.generate.conditions import Condition, conditioned, rows_of
from textvae.generate.decoding import Decoding, beams, generate
from textvae.generate.reading import Reader, Seen, batches, codes_of, encoded_together, one_code
from textvae.generate.ways import decoding_of
from textvae.inference import evaluating, prior_draws
from textvae.model import TextVAE
from textvae.parts.posteriors import Posterior, joined, mapped
from textvae.parts.priors import Prior, arc, line
from textvae.run import Run
from textvae.text.readers import require_texts
from textvae.text.tokenizers import EOS

# Padded tokens scored at once; each takes the logits of the whole vocabulary.
SCORED = 4096
GREEDY = Decoding()
# Greedy decoding of all that a model writes, the unknown word too: for scores.
MEASURED = Decoding(allow_unknown=True)
PATHS = ("linear", "spherical")
UNKNOWN_ENDS = "the model knows no word of either, so there is no path; give sentences with known words"


class Codec:
    """A run's model with its tokenizer: the basis of all work on codes and texts.

    Codes are float32 arrays of shape (n, latent). Random draws depend on `seed` and on a sentence's position alone:
    the first ten of twenty samples are the ten samples of the same seed. Texts have at most `max_length` tokens,
    like the training texts: longer ones are cut, and generated ones end there. A `decoding` is a `Decoding`, or a
    text such as "greedy", "beam:5", "sample:0.7", "top-k:15" or "nucleus:0.9".

    Texts of a model of windows are pieces of running text of several lines: generated ones have exactly `window`
    tokens, line breaks included, and given ones may be shorter.
    """

    def __init__(self, run: Run, model: TextVAE) -> None:
        self.run, self.model, self.tokenizer = run, model.eval(), run.tokenizer
        self.latent = run.settings.model.latent
        self.window = run.settings.data.window
        self.max_length = self.window or run.settings.data.max_length
        self._reader = Reader(self.tokenizer, self.max_length, windows=self.window is not None)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the weights, and the KL weight if one was asked for; stored with codes and directions."""
        weights, beta = file_digest(self.run.folder / "model.safetensors"), self.run.beta
        return weights if beta is None else hashlib.sha256(f"{weights} {beta!r}".encode()).hexdigest()

    def posterior(self, texts: Iterable[str], grad: bool = False) -> Posterior | None:
        """Return q(z|x) of the texts, in order, on the CPU; its `mean` is (n, latent). None without texts.

        Its tensors are detached from the model, or with `grad` differentiable in its weights: dropout is off then
        too, and the intermediate results of all texts are held in memory.

        Random parameters of the posterior, such as the components of a semi-implicit one, are drawn once and shared
        by all texts, so that a code depends on its text alone. Draws of q(z|x) are those of
        `sources.posterior_draws`.

        Texts that are too long are cut, with one warning. Words outside the vocabulary become the unknown word,
        with one warning for texts that have no other word.

        Raises:
            RequestError: For an empty text, an element that is not a text, and a language model, which has no
            codes.
        """
        return self._posterior(self.read(texts), grad)

    def encode(self, texts: Iterable[str], condition: Condition | None = None) -> Float32[np.ndarray, "n latent"]:
        """Return the code of each text, in order: the mean of its posterior, under its condition if there is one.

        Raises:
            RequestError: As `posterior`.
        """
        return self.means_of(self.read(texts), condition).numpy()

    def encode_counted(self, texts: Iterable[str]) -> tuple[Float32[np.ndarray, "n latent"], Seen]:
        """Return the codes of texts as `encode` does, with the counts to warn about, without warning.

        Raises:
            RequestError: As `posterior`.
        """
        self._prior()
        ids, seen = self.token_ids(texts)
        return self.means_of(ids).numpy(), seen

    def decode(
        self,
        z: ArrayLike | Tensor,
        decoding: Decoding | str = GREEDY,
        seed: int = 0,
        begin: int = 0,
        condition: Condition | None = None,
    ) -> list[str]:
        """Decode codes (n, latent) to one text each, under a condition if the model has one.

        The first code has number `begin` among those decoded with this seed, so several calls give the texts of a
        single one.

        Raises:
            RequestError: For codes of another shape or not finite, and for a language model, which has none.
        """
        self._prior()
        return self._texts(codes_of(z, self.latent), decoding, seed, begin=begin, condition=condition)

    def n_best(
        self, z: ArrayLike | Tensor | None, decoding: Decoding | str, n: int, rows: int = 1
    ) -> list[list[tuple[str, float]]]:
        """Return the `n` best texts of a beam search for each code, or `rows` times without codes, the best first.

        Each comes with log p(text|z) in nats, end mark included.

        Raises:
            RequestError: As `decode`, for another decoding, and if the beam is smaller than n.
        """
        decoding = decoding_of(decoding)
        if decoding.name != "beam":
            raise RequestError(f"n_best = {n}: {decoding.name} decoding finds one text; decode by 'beam'")
        if not 1 <= n <= decoding.beam:
            raise RequestError(f"n_best = {n}: must be 1 to {decoding.beam}, the size of the beam")
        codes = None if z is None or self.model.prior is None else codes_of(z, self.latent)
        with evaluating(self.model):
            end, length = self.window is None, decoding.max_length or self.max_length
            given = conditioned(self.model, codes, None, rows if codes is None else len(codes))
            hypotheses = beams(
                self.model.decoder, given.codes, decoding, length, rows=rows, code=given.code, end=end
            )
        return [[(self._written(text.ids), text.log_prob) for text in texts[:n]] for texts in hypotheses]

    def sample(
        self,
        n: int,
        seed: int = 0,
        decoding: Decoding | str = GREEDY,
        begin: int = 0,
        condition: Condition | None = None,
    ) -> list[str]:
        """Generate `n` sentences, numbered from `begin`, from codes drawn from the prior, or from a language model.

        A conditional model needs a `condition`: labels by column, a value for all sentences or a list of `n`.
        Without codes, greedy decoding gives the same sentence n times; sample from a language model instead.

        Raises:
            RequestError: If n is negative.
        """
        if n < 0:
            raise RequestError(f"n = {n}: must be 0 or more")
        if self.model.prior is None:
            return self._texts(None, decoding, seed, n, begin, condition)
        return self._texts(
            prior_draws(self.model, self.latent, n, seed, begin), decoding, seed, begin=begin, condition=condition
        )

    def nll(self, texts: Iterable[str]) -> Float64[np.ndarray, " n"]:
        """Return -log p(text) of each text under a language model, in nats, end mark included: exact and finite.

        Texts are scored as a whole, even if they are longer than the training texts. Words outside the vocabulary
        count as the unknown word. A text without words, which models may generate, consists of its end mark.

        Raises:
            RequestError: For an element that is not a text, and for a model with codes or of windows.
        """
        self.require_likelihood()
        self.require_whole_texts()
        ids = self.whole_ids(texts)
        nll = torch.zeros(len(ids), dtype=torch.float64)
        with evaluating(self.model):
            for batch in batches(ids, SCORED):
                log_px = self.model.log_px(batch.to(self.model.device), None)
                nll[batch.index] = -log_px.double().sum(-1)[0].cpu()
        return nll.numpy()

    def path(
        self,
        a: str | ArrayLike | Tensor,
        b: str | ArrayLike | Tensor,
        steps: int = 9,
        kind: str | None = None,
    ) -> Float32[np.ndarray, "steps latent"]:
        """Return `steps` codes from a to b, both included; a and b are texts or codes of shape (latent,).

        The default is the prior's own path, a line except for a prior on the sphere. `kind` selects a `linear`
        path, or a `spherical` one: even angles from one direction to the other, with the length changing evenly.

        Raises:
            RequestError: For fewer than 2 steps, equal ends, an unknown kind, and for the ends as `posterior` and
            `decode`.
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
        decoding: Decoding | str = GREEDY,
        seed: int = 0,
        kind: str | None = None,
    ) -> list[str]:
        """Return the texts along the path from a to b, both ends included; a and b are texts or codes (latent,).

        Raises:
            RequestError: As `path`.

        References:
            Bowman et al. 2016, section 6.3.
        """
        return self.decode(self.path(a, b, steps, kind), decoding, seed)

    def interpolate_prior(self, seed: int = 0, steps: int = 9, decoding: Decoding | str = GREEDY) -> list[str]:
        """Return the texts along the path between the codes of the first two samples of `seed`.

        Raises:
            RequestError: For fewer than 2 steps, and for a language model, which has no codes.
        """
        self._prior()
        a, b = prior_draws(self.model, self.latent, 2, seed)
        return self.interpolate(a, b, steps, decoding, seed)

    def draw(self, n: int, seed: int = 0, begin: int = 0) -> Float32[np.ndarray, "n latent"]:
        """Return the codes that `sample` decodes: `n` draws from the prior, numbers `begin` and up.

        Raises:
            RequestError: If n is negative, and for a language model, which has no codes.
        """
        self._prior()
        if n < 0:
            raise RequestError(f"n = {n}: must be 0 or more")
        return prior_draws(self.model, self.latent, n, seed, begin).numpy()

    def means_of(self, ids: list[list[int]], condition: Condition | None = None) -> Float[Tensor, "n latent"]:
        """Return the posterior means of tokenized texts, end marks included."""
        means = torch.zeros(len(ids), self.latent)
        for index, posterior in self._encoded(ids, condition=condition):
            means[index] = posterior.mean.cpu()
        return means

    def _posterior(self, ids: list[list[int]], grad: bool = False) -> Posterior | None:
        """Return q(z|x) of tokenized texts."""
        parts = [(index, mapped(posterior, Tensor.cpu)) for index, posterior in self._encoded(ids, grad)]
        if not parts:
            return None
        order = torch.cat([index for index, _ in parts]).argsort()
        return mapped(joined([posterior for _, posterior in parts]), lambda rows: rows[order])

    def _encoded(
        self, ids: list[list[int]], grad: bool = False, condition: Condition | None = None
    ) -> Iterator[tuple[Tensor, Posterior]]:
        """Yield the positions of some texts and their posteriors, batch by batch."""
        labels = None if condition is None else rows_of(self.run, condition, len(ids))
        with evaluating(self.model, grad):
            for batch in encoded_together(ids, self.model.device):
                if labels is not None:
                    batch = batch._replace(condition=labels.at(batch.index))
                posterior = self.model.encode(batch.to(self.model.device))
                assert posterior is not None
                yield batch.index, posterior

    def require_likelihood(self) -> None:
        """Refuse a model with codes.

        Raises:
            RequestError: For such a model.
        """
        if self.model.prior is not None:
            raise RequestError(
                f"{self.run.folder}: has latent codes, so the exact likelihood of a text is unknown; "
                "give the run of a language model (--method language-model)"
            )

    def require_whole_texts(self) -> None:
        """Refuse a model of windows.

        Raises:
            RequestError: For such a model.
        """
        if self.window is not None:
            raise RequestError(
                f"{self.run.folder}: is a model of pieces of running text, not of whole texts; "
                "train one without data.window"
            )

    def _prior(self) -> Prior:
        """Return the prior; refuse a language model."""
        if self.model.prior is None:
            raise RequestError(f"{self.run.folder}: is a language model: it has no latent code")
        return self.model.prior

    def _texts(
        self,
        z: Tensor | None,
        decoding: Decoding | str,
        seed: int,
        rows: int = 1,
        begin: int = 0,
        condition: Condition | None = None,
    ) -> list[str]:
        decoding = decoding_of(decoding)
        rows = rows if z is None else len(z)
        labels = None if condition is None else rows_of(self.run, condition, rows)
        with evaluating(self.model):
            end, length = self.window is None, decoding.max_length or self.max_length
            given = conditioned(self.model, z, labels, rows)
            how: dict[str, Any] = {"rows": rows, "code": given.code, "end": end, "begin": begin}
            ids = generate(self.model.decoder, given.codes, decoding, length, seed, **how)
        return self.tokenizer.decode_batch(ids) if end else [self.tokenizer.decode_lines(row) for row in ids]

    def _written(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids) if self.window is None else self.tokenizer.decode_lines(ids)

    def read(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the tokens of texts to be encoded; warn if texts were cut or are unknown.

        Raises:
            RequestError: As `posterior`.
        """
        self._prior()
        ids, seen = self.token_ids(texts)
        self.warn_of(seen, 5)
        return ids

    def knows(self, text: str) -> bool:
        """Return True if the model knows a word of a text.

        Raises:
            RequestError: As `token_ids`.
        """
        return not self.token_ids([text])[1].unknown

    def token_ids(self, texts: Iterable[str]) -> tuple[list[list[int]], Seen]:
        """Return the tokens of texts, normalised like the training text, and the counts of cut and unknown texts.

        End marks are among the tokens.

        Raises:
            RequestError: For an empty text, and for an element that is not a text.
        """
        return self._reader.read(texts)

    def whole_ids(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the tokens of texts as single lines, however long, end marks included; of an empty one just that.

        Raises:
            RequestError: For an element that is not a text.
        """
        return [[*ids, EOS] for ids in self._reader.lines(require_texts(texts))]

    def warn_of(self, seen: Seen, level: int = 3) -> None:
        """Warn, `level` calls up, if texts were cut because they are too long, or have no known word."""
        seen.warn(self.max_length, f"data.{'max_length' if self.window is None else 'window'}", level + 1)

    def end(self, end: str | ArrayLike | Tensor, name: str) -> Float[Tensor, " latent"]:
        """Return one end of a path: a code, alone or as the only row of an array, or the code of a text.

        Raises:
            RequestError: As `posterior` and `decode`, with its `name` in the message.
        """
        if isinstance(end, str):
            return self.means_of(self.read([end]))[0]
        return one_code(end, self.latent, name)
