"""A trained model as people use it: texts to codes, codes to texts, samples, and paths between sentences."""

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from textvae.batches import Batch
from textvae.corpora.readers import one_line
from textvae.errors import RequestError
from textvae.evaluate import model_of
from textvae.files import replacing
from textvae.generate.decoding import Decoding, generate
from textvae.model import TextVAE
from textvae.parts.noise import sentence_noise
from textvae.parts.posteriors import Posterior, joined, mapped
from textvae.parts.priors import Prior
from textvae.run import Run
from textvae.scores import evaluating, on
from textvae.tokenizers import EOS, PAD

# Padded tokens encoded at once.
TOKENS = 16_384
GREEDY = Decoding()
# A line break with all white space around it, since lines of training text have none outside and are never blank.
# It begins where the white space does, so that long stretches of it take no longer than other text.
_LINE_BREAK = re.compile(r"(?<!\s)\s*[\r\n]\s*")


def load(folder: Path | str) -> "Trained":
    """The model of a run folder, with its best weights, on the device that the run's settings ask for.

    Raises:
        RequestError: when the folder is missing, unfinished or damaged.
    """
    run = Run.open(folder)
    return Trained(run, model_of(run))


class Trained:
    """A run's model with its tokenizer.

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

    def posterior(self, texts: Sequence[str]) -> Posterior | None:
        """q(z|x) of each text, in their order, on the CPU; its `mean` is (n, latent). None without texts.

        Texts that are too long are cut, with one warning; words that the model does not know become the unknown
        word.

        Raises:
            RequestError: for an empty text, one that is no text, and by a language model, which has no codes.
        """
        self._prior()
        return self._posterior(self._ids(texts))

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "n latent"]:
        """The code of each text, in their order: the mean of its posterior.

        Raises:
            RequestError: as `posterior`.
        """
        return self._means(texts).numpy()

    def decode(self, z: ArrayLike | Tensor, decoding: Decoding = GREEDY, seed: int = 0) -> list[str]:
        """The text of each code; `z` is (n, latent).

        Raises:
            RequestError: for codes of another shape or not finite, and by a language model, which has none.
        """
        self._prior()
        return self._texts(self._codes(z), decoding, seed)

    def sample(self, n: int, seed: int = 0, decoding: Decoding = GREEDY) -> list[str]:
        """`n` sentences from codes drawn from the prior, or from a language model.

        Without codes greedy decoding gives the same sentence n times: decode a language model's by sampling.

        Raises:
            RequestError: when n is negative.
        """
        if n < 0:
            raise RequestError(f"n = {n}: must be 0 or more")
        if self.model.prior is None:
            return self._texts(None, decoding, seed, n)
        return self._texts(self._drawn(n, seed), decoding, seed)

    def reconstruct(
        self,
        texts: Sequence[str],
        decoding: Decoding = GREEDY,
        sample_posterior: bool = False,
        seed: int = 0,
    ) -> list[str]:
        """Each text encoded and decoded again, from its posterior's mean or from one draw of the posterior.

        Raises:
            RequestError: as `posterior`.
        """
        posterior = self.posterior(texts)
        if posterior is None:
            return []
        z = posterior.mean
        if sample_posterior:
            with torch.no_grad():
                z = posterior.rsample(sentence_noise(seed, torch.arange(len(z))))[0]
        return self._texts(z, decoding, seed)

    def impute(self, texts: str | Sequence[str], size: int | None = None, rounds: int = 3) -> list[str]:
        """Texts with their gaps filled: `___` is one missing word, `___*3` three.

        Raises:
            RequestError: as `imputation.impute`, which has the details and gives log-probabilities too.
        """
        from textvae.generate.imputation import impute  # not above: it works on this class

        given = [texts] if isinstance(texts, str) else texts
        return [found.text for found in impute(self, given, size, rounds)]

    def path(
        self, a: str | ArrayLike | Tensor, b: str | ArrayLike | Tensor, steps: int = 9
    ) -> Float32[np.ndarray, "steps latent"]:
        """`steps` codes from a to b, both included, on the prior's path; a and b are texts or codes of (latent,).

        Raises:
            RequestError: for fewer than 2 steps, and as `posterior` and `decode` for the ends.
        """
        prior = self._prior()
        if steps < 2:
            raise RequestError(f"steps = {steps}: must be 2 or more, both ends included")
        first, last = self._end(a, "a"), self._end(b, "b")
        with evaluating(self.model):
            return prior.path(first.to(self.model.device), last.to(self.model.device), steps).cpu().numpy()

    def interpolate(
        self,
        a: str | ArrayLike | Tensor,
        b: str | ArrayLike | Tensor,
        steps: int = 9,
        decoding: Decoding = GREEDY,
        seed: int = 0,
    ) -> list[str]:
        """The texts along the path from a to b, both ends decoded too; a and b are texts or codes of (latent,).

        Raises:
            RequestError: as `path`.

        Source: Bowman et al. 2016, section 5.3.
        """
        return self.decode(self.path(a, b, steps), decoding, seed)

    def interpolate_prior(self, seed: int = 0, steps: int = 9, decoding: Decoding = GREEDY) -> list[str]:
        """The texts along the path between two draws of the prior: the codes of the first two samples of `seed`.

        Raises:
            RequestError: for fewer than 2 steps, and by a language model, which has no codes.
        """
        self._prior()
        a, b = self._drawn(2, seed)
        return self.interpolate(a, b, steps, decoding, seed)

    def draw(self, n: int, seed: int = 0) -> Float32[np.ndarray, "n latent"]:
        """The codes that `sample` decodes: `n` draws of the prior.

        Raises:
            RequestError: when n is negative, and by a language model, which has no codes.
        """
        self._prior()
        if n < 0:
            raise RequestError(f"n = {n}: must be 0 or more")
        return self._drawn(n, seed).numpy()

    def means_of(self, ids: list[list[int]]) -> Float[Tensor, "n latent"]:
        """The posterior means of texts that are tokens already, end marks included."""
        posterior = self._posterior(ids)
        return torch.zeros(0, self.latent) if posterior is None else posterior.mean.detach()

    def _posterior(self, ids: list[list[int]]) -> Posterior | None:
        """q(z|x) of texts that are tokens already."""
        index: list[Tensor] = []
        parts: list[Posterior] = []
        with evaluating(self.model):
            for batch in _batches(ids):
                posterior = self.model.encode(on(self.model.device, batch))
                assert posterior is not None
                index.append(batch.index)
                parts.append(mapped(posterior, Tensor.cpu))
        order = torch.cat(index).argsort() if index else None
        return None if order is None else mapped(joined(parts), lambda rows: rows[order])

    def _means(self, texts: Sequence[str]) -> Float[Tensor, "n latent"]:
        """The posterior means of texts."""
        self._prior()
        return self.means_of(self._ids(texts))

    def _prior(self) -> Prior:
        """The prior; a language model is refused."""
        if self.model.prior is None:
            raise RequestError(f"{self.run.folder}: is a language model: it has no latent code; it can only sample")
        return self.model.prior

    def _drawn(self, n: int, seed: int) -> Float[Tensor, "n latent"]:
        """Draws of the prior, on the CPU; the noise of each by its number, so that fewer are the first of more."""

        def noise(samples: int, size: int) -> Float[Tensor, "sample 1 size"]:
            return sentence_noise(seed, torch.arange(samples), self.model.device)(1, size).transpose(0, 1)

        with evaluating(self.model):
            return self._prior().sample(n, noise).cpu() if n else torch.zeros(0, self.latent)

    def _texts(self, z: Tensor | None, decoding: Decoding, seed: int, rows: int = 1) -> list[str]:
        with evaluating(self.model):
            model, end = self.model, self.window is None
            ids = generate(model.decoder, z, decoding, self.max_length, seed, rows=rows, code=model.code, end=end)
        return self.tokenizer.decode_batch(ids) if end else [self.tokenizer.decode_lines(row) for row in ids]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts as the model reads them, brought to the form that the training text had."""
        if isinstance(texts, str):
            raise RequestError(f"texts = {texts!r}: a list of texts is expected; wrap a single one: [text]")
        sentences = self._sentences(texts) if self.window is None else self._pieces(texts)
        for number, ids in enumerate(sentences):
            if not ids:
                raise RequestError(f"texts[{number}]: is empty; leave it out")
        long = sum(len(ids) > self.max_length for ids in sentences)
        if long:
            warnings.warn(
                f"{long} of {len(sentences)} texts cut to their first {self.max_length} tokens "
                f"(data.{'max_length' if self.window is None else 'window'})",
                stacklevel=4,
            )
        if self.window is not None:
            return [ids[: self.window] for ids in sentences]
        return [[*self.tokenizer.beginning(ids, self.max_length), EOS] for ids in sentences]

    def _sentences(self, texts: Sequence[str]) -> list[list[int]]:
        lines = [one_line(text) if isinstance(text, str) else text for text in texts]
        return self.tokenizer.encode(lines)  # refuses what is no text

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        pieces = [_LINE_BREAK.sub("\n", text) if isinstance(text, str) else text for text in texts]
        return self.tokenizer.encode_lines(pieces)

    def _codes(self, z: ArrayLike | Tensor, name: str = "z") -> Float[Tensor, "n latent"]:
        """Codes as a tensor of their own, once they are found to be codes of this model."""
        codes = _array(z, name)
        if codes.ndim != 2 or codes.shape[1] != self.latent:
            raise RequestError(f"{name}: has shape {codes.shape}; codes of shape (n, {self.latent}) are expected")
        bad = np.flatnonzero(~np.isfinite(codes).all(axis=1))
        if len(bad):
            raise RequestError(f"{name}[{bad[0]}]: holds a number that is not finite")
        return torch.tensor(codes)

    def _end(self, end: str | ArrayLike | Tensor, name: str) -> Float[Tensor, " latent"]:
        """One end of a path: the code itself, alone or as the only one of an array, or that of a text."""
        if isinstance(end, str):
            return self._means([end])[0]
        code = _array(end, name)
        if code.shape not in ((self.latent,), (1, self.latent)):
            raise RequestError(f"{name}: has shape {code.shape}; a text or one code of {self.latent} is expected")
        return self._codes(code.reshape(1, -1), name)[0]


def save_codes(
    path: Path | str, codes: Float32[np.ndarray, "n latent"], texts: Sequence[str] | None = None
) -> None:
    """Write codes to a file that is replaced whole or not at all: `.npy`, or `.parquet` with columns z0, z1, ...

    With `texts` a Parquet file has them too, in a column `text`; a NumPy file has no place for them.

    Raises:
        RequestError: for another suffix, or texts that are not one for each code.
        WorkError: when the file cannot be written.
    """
    path = Path(path)
    if texts is not None and len(texts) != len(codes):
        raise RequestError(f"texts: {len(texts)} for {len(codes)} codes; give one for each")
    if path.suffix == ".npy":
        with replacing(path) as file:
            np.save(file, codes, allow_pickle=False)
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        columns = {} if texts is None else {"text": pyarrow.array(texts, pyarrow.string())}
        columns |= {f"z{number}": pyarrow.array(column) for number, column in enumerate(codes.T)}
        with replacing(path) as file:
            parquet.write_table(pyarrow.table(columns), file)
    else:
        raise RequestError(f"{path}: unknown suffix {path.suffix!r}; codes are written as .npy or .parquet")


def _array(value: ArrayLike | Tensor, name: str) -> Float32[np.ndarray, "..."]:
    try:
        return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value, dtype=np.float32)
    except (TypeError, ValueError):
        raise RequestError(f"{name}: is not an array of numbers") from None


def _batches(sentences: list[list[int]]) -> Iterator[Batch]:
    """Texts' ids, end marks included, the longest first, in batches of at most TOKENS ids, padding among them."""
    order = sorted(range(len(sentences)), key=lambda number: -len(sentences[number]))
    start = 0
    while start < len(order):
        index = order[start : start + max(1, TOKENS // len(sentences[order[start]]))]
        rows = [torch.tensor(sentences[number]) for number in index]
        lengths = torch.tensor([len(row) for row in rows])
        yield Batch(pad_sequence(rows, batch_first=True, padding_value=PAD), lengths, torch.tensor(index))
        start += len(index)
