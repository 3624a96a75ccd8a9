"""A trained model as users see it: a codec that can also reconstruct, impute and transfer."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from numpy.typing import ArrayLike
from torch import Tensor

from textvae.errors import RequestError
from textvae.generate.codec import GREEDY, Codec
from textvae.generate.codes import Piece, encoded
from textvae.generate.conditions import Condition, rows_of
from textvae.generate.decoding import Decoding
from textvae.generate.imputation import impute
from textvae.generate.labels import SAMPLES, InferredLabels, infer_labels
from textvae.generate.likelihood import Likelihood, likelihood
from textvae.generate.neighbours import Neighbour, neighbours
from textvae.generate.reading import codes_of
from textvae.generate.sources import posterior_draws
from textvae.generate.transfer import direction, moved
from textvae.run import Run, model_of
from textvae.run.data import corpus_of
from textvae.run.rates import at_rate
from textvae.text.conditions import Turns
from textvae.text.corpus import Corpus
from textvae.text.readers import each_text, require_texts
from textvae.text.tokenizers import PAD


def load(
    folder: Path | str | Run,
    prior: str = "usual",
    rate: float | str | None = None,
    condition: Condition | None = None,
) -> "Trained":
    """Return the model of a run folder with the weights that it keeps, on the device of the run's settings.

    Args:
        folder: The run.
        prior: `own`; `fitted`, the prior that `textvae.fit_prior` has fitted to the codes; or `usual`: the fitted
            one of a run that was trained with `train.fit_prior`, else its own.
        rate: Of a run of many KL weights, the KL in nats per sentence at which it answers, or the weight as a
            text, `beta=0.3`; by default the weight of its settings, 1.
        condition: Of a conditional model, the labels by column that hold for all texts, as in `Trained.given`.

    Raises:
        RequestError: If the folder is missing, unfinished or damaged, and as `Run.under`, `rates.at_rate` and
            `Trained.given`.
    """
    run = Run.open(folder)
    run = (run if rate is None else at_rate(run, rate)).under(prior)
    trained = Trained(run, model_of(run))
    return trained if condition is None else trained.given(condition)


class Trained(Codec):
    """A run's model with its tokenizer, and all operations on a text through its code."""

    def given(self, condition: Condition) -> "Trained":
        """Return the model under one condition, which then holds for every text that it reads or writes.

        Args:
            condition: A value for each column of labels, such as `{"sentiment": "negative"}`.

        Raises:
            RequestError: For a model without conditions, and for unknown or missing columns and values.
        """
        return Trained(self.run, self.model.given(rows_of(self.run, condition)))

    def context(self, utterances: str | Sequence[str], speakers: Sequence[int] | None = None) -> Turns:
        """Return utterances, first to last, as a condition: the context of a response, or a source text.

        Args:
            utterances: Texts, or one; those beyond the window of the model are left out, the first ones.
            speakers: For each 1 if the one who responds has said it, else 0; by default they take turns, and the
                last utterance is the other's.

        Raises:
            RequestError: For a model that is conditioned on no texts, an empty utterance, and speakers of another
                number.
        """
        data = self.run.settings.data
        if data.dialogue is None and data.source is None:
            raise RequestError(f"{self.run.folder}: is conditioned on no dialogue or source text")
        texts = [utterances] if isinstance(utterances, str) else require_texts(utterances, "utterances")
        flags = [(len(texts) - at + 1) % 2 for at in range(len(texts))] if speakers is None else list(speakers)
        if len(flags) != len(texts):
            raise RequestError(f"speakers: has {len(flags)} flags for {len(texts)} utterances; give one for each")
        if data.source is not None and len(texts) != 1:
            raise RequestError(
                f"utterances: has {len(texts)} texts, and the condition is one source text; give one"
            )
        most = 1 if data.dialogue is None else data.dialogue.window - 1
        ids, seen = self.token_ids(texts[-most:])
        self.warn_of(seen)
        if not ids:
            raise RequestError("utterances: is empty; give one or more")
        lengths = torch.tensor([[len(own) for own in ids]])
        padded = torch.full((1, len(ids), int(lengths.max())), PAD)
        for at, own in enumerate(ids):
            padded[0, at, : len(own)] = torch.tensor(own)
        return Turns(padded, lengths, torch.tensor([len(ids)]), torch.tensor([flags[-most:]]))

    def respond(
        self,
        utterances: str | Sequence[str],
        n: int = 5,
        seed: int = 0,
        decoding: Decoding | str | None = None,
        speakers: Sequence[int] | None = None,
    ) -> list[str]:
        """Return `n` responses to a context, or targets of a source text, each from a draw of the prior.

        Args:
            utterances: As those of `context`.
            n: Number of responses.
            seed: Of the draws.
            decoding: By default greedy; of a model without a code, sampling.
            speakers: As those of `context`.

        Raises:
            RequestError: As `context` and `sample`.
        """
        way = decoding or ("sample" if self.model.prior is None else GREEDY)
        return self.sample(n, seed, way, condition=self.context(utterances, speakers))

    @cached_property
    def corpus(self) -> Corpus:
        """The text that the run was trained on, opened once.

        Raises:
            RequestError: If it is missing, or has changed since.
        """
        return corpus_of(self.run)

    def reconstruct(
        self,
        texts: Iterable[str],
        decoding: Decoding | str = GREEDY,
        sample_posterior: bool = False,
        seed: int = 0,
        condition: Condition | None = None,
    ) -> list[str]:
        """Encode and decode each text, from its posterior's mean or the first of `posterior_draws`.

        With a `condition` of a single row both draws and means are under it; one for each text is for means.

        Raises:
            RequestError: As `posterior`.
        """
        texts = require_texts(texts)
        if not sample_posterior:
            return self._texts(self.means_of(self.read(texts), condition), decoding, seed, condition=condition)
        model = self if condition is None else self.given(condition)
        return model._texts(torch.tensor(posterior_draws(model, texts, 1, seed)[:, 0]), decoding, seed)

    def impute(
        self, texts: str | Iterable[str], size: int | None = None, rounds: int = 3, last: float | None = None
    ) -> list[str]:
        """Fill the gaps of texts: `___` is one missing word, `___*3` three; or the `last` share of each text.

        Raises:
            RequestError: As `imputation.impute`, which has the details and also returns log-probabilities.
        """
        given = [texts] if isinstance(texts, str) else texts  # impute refuses other types
        return [imputation.text for imputation in impute(self, given, size, rounds, last)]

    def direction(
        self, sources: str | Iterable[str], targets: str | Iterable[str]
    ) -> Float32[np.ndarray, " latent"]:
        """Return the mean code of `targets` minus that of `sources`, one text or many on either side.

        Raises:
            RequestError: As `transfer.direction`, which has the details.
        """
        return direction(self, sources, targets)

    def transfer(
        self,
        texts: str | Iterable[str],
        direction: ArrayLike,
        strength: float = 1.0,
        decoding: Decoding | str = GREEDY,
        seed: int = 0,
    ) -> list[str]:
        """Decode each text's code moved along a direction, z + strength * direction; 0 gives a reconstruction.

        Raises:
            RequestError: As `encode` and `decode`, and for a direction that does not fit the codes of this run.
        """
        given = [texts] if isinstance(texts, str) else texts
        return self.decode(moved(self, self.encode(given), direction, strength), decoding, seed)

    def infer_labels(self, texts: str | Iterable[str], samples: int = SAMPLES, seed: int = 0) -> InferredLabels:
        """Infer the labels of texts: p(c|x) in proportion to p(c) p(x|c), of a model conditioned on labels.

        Args:
            texts: One text or several.
            samples: Importance samples for each text and combination of labels.
            seed: Of the codes.

        Raises:
            RequestError: As `labels.infer_labels`.
        """
        return infer_labels(self, self.given, [texts] if isinstance(texts, str) else texts, samples, seed)

    def relabel(
        self,
        texts: str | Iterable[str],
        condition: Condition | None,
        target: Condition,
        decoding: Decoding | str = GREEDY,
        seed: int = 0,
        begin: int = 0,
    ) -> list[str]:
        """Change the labels of texts while their codes stay: encode under one condition, decode under another.

        Args:
            texts: One text or several.
            condition: Their labels by column, a value for all or one for each; inferred if None.
            target: The labels that they are to get, likewise; columns that it leaves out stay.
            decoding: How texts are written.
            seed: Of the decoding.
            begin: Number of the first text among those decoded with this seed.

        Raises:
            RequestError: As `encode`, `decode` and `given`.
        """
        given = [texts] if isinstance(texts, str) else require_texts(texts)
        if condition is None:
            condition = self.infer_labels(given).labels
        if isinstance(condition, Mapping) and isinstance(target, Mapping):
            target = {**condition, **target}
        return self.decode(self.encode(given, condition), decoding, seed, begin, target)

    def neighbours(
        self,
        texts: str | Iterable[str],
        k: int = 5,
        *,
        among: Iterable[str] | ArrayLike | Tensor,
        metric: str = "cosine",
    ) -> list[list[Neighbour]]:
        """Find the `k` nearest codes to that of each text: exactly, nearest first, ties in order of position.

        Args:
            texts: One text or several.
            k: Neighbours of each.
            among: The texts to search, encoded some thousand at a time; or their codes, as `encode` returns them,
                for several searches.
            metric: `cosine` (1 - cos of the angle) or `euclidean`.

        Returns:
            For each text a list of (`row`, `distance`, `text`): the position in `among`, from 0, the distance of
            the codes, and the text, None where codes were given.

        Raises:
            RequestError: As `posterior`, for codes of another shape, and if `among` is empty.
        """
        queries = self.encode([texts] if isinstance(texts, str) else texts)
        if isinstance(among, np.ndarray | Tensor) and among.ndim == 2:
            pieces: Iterable[Piece] = [Piece(codes_of(among, self.latent, "among").numpy(), None)]
        else:
            pieces = encoded(self, each_text(among, "among"))
        found = neighbours(queries, pieces, k, metric)
        if any(not near for near in found):
            raise RequestError("among: is empty; give texts, or their codes")
        return found

    def log_prob(self, texts: str | Iterable[str], samples: int = 500, seed: int = 0) -> Likelihood:
        """Estimate how likely each text is: arrays of -log p(x) and its bound in nats, and of counts of tokens.

        Args:
            texts: One text or several, each scored as a whole; words outside the vocabulary count as the unknown
                word.
            samples: Importance samples a text; fewer are faster, and give a higher -log p(x).
            seed: Of the codes.

        Raises:
            RequestError: As `likelihood.likelihood`.
        """
        return likelihood(self, [texts] if isinstance(texts, str) else texts, samples, seed)
