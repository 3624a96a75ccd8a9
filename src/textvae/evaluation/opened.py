"""A run opened once: what every evaluation of it reads."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from textvae.errors import RequestError, WorkError
from textvae.generate.codec import GREEDY
from textvae.generate.conditions import Condition
from textvae.generate.decoding import Decoding
from textvae.generate.trained import Trained
from textvae.generate.ways import decoding_of
from textvae.inference import Scores, score
from textvae.model import TextVAE
from textvae.run import Run, model_of
from textvae.run.fitted import FOLDER
from textvae.run.folder import own_folder
from textvae.text.conditions import Labels, Turns
from textvae.text.store import spaced

# Random stream of the conditions of samples.
_CONDITIONS = 5


class Opened(Trained):
    """A trained model that keeps the scores of its splits and the sentences that it has sampled.

    `saved` lists the files that `save` has written.

    Evaluations of one run share an object of this class, so that nothing is read, scored or decoded twice.
    """

    def __init__(self, run: Run, model: TextVAE) -> None:
        super().__init__(run, model)
        self.saved: list[Path] = []
        self._scores: dict[tuple[str, int, int | None], Scores] = {}
        self._samples: dict[tuple[int, Decoding], list[str]] = {}

    def rows(self, split: str, most: int | None = None) -> np.ndarray:
        """Return the numbers of a split's sentences: all, or `most` evenly spaced ones.

        Raises:
            RequestError: if the corpus has no such split, or has changed.
        """
        sentences = len(self.corpus.split(split))
        return np.arange(sentences) if most is None else spaced(sentences, most)

    def scores(self, split: str, seed: int, most: int | None = None) -> Scores:
        """Score the sentences of `rows` once, as `inference.score` does.

        Raises:
            RequestError: as `rows`.
        """
        rows, store = self.rows(split, most), self.corpus.split(split)
        key = (split, seed, None if len(rows) == len(store) else len(rows))
        if key not in self._scores:
            self._scores[key] = score(self.model, store, seed, rows=rows)
        return self._scores[key]

    def sample(
        self,
        n: int,
        seed: int = 0,
        decoding: Decoding | str = GREEDY,
        begin: int = 0,
        condition: Condition | None = None,
    ) -> list[str]:
        """Generate `n` sentences as `Trained.sample` does; decode only those that were not asked for before.

        Without a condition, those of a conditional model are under conditions drawn from the training text.

        Raises:
            RequestError: as `Trained.sample`.
        """
        decoding = decoding_of(decoding)
        if condition is not None or begin:
            return super().sample(n, seed, decoding, begin, condition or self.drawn_conditions(n, seed, begin))
        kept = self._samples.setdefault((seed, decoding), [])
        if not 0 <= n <= len(kept):
            missing, begin = n if n < 0 else n - len(kept), len(kept)
            kept += super().sample(missing, seed, decoding, begin, self.drawn_conditions(missing, seed, begin))
        return kept[:n]

    def under_one(self, seed: int) -> Trained:
        """Return the model under the condition of a training sentence drawn by the seed; without any, as it is."""
        condition = self.drawn_conditions(1, seed)
        return self if condition is None else self.given(condition)

    def drawn_conditions(self, n: int, seed: int, begin: int = 0) -> Labels | Turns | None:
        """Return the conditions of training sentences drawn by the seed, for the samples `begin` and up.

        None for a model without conditions, or with one that holds for all texts.
        """
        if self.model.conditioning is None or self.model.fixed is not None:
            return None
        store = self.corpus.split("train")
        random = np.random.default_rng([seed, _CONDITIONS])
        return store.condition(random.integers(len(store), size=begin + max(0, n))[begin:])

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Write results to `Run.result`; warn if that is impossible, as in a read-only folder, or behind a link."""
        path = self.run.result(name)
        try:
            own_folder(self.run.folder, str(path.parent.relative_to(self.run.folder)))
            write(path)
        except (WorkError, RequestError) as error:
            warnings.warn(f"the results are complete, but could not be saved in the run: {error}", stacklevel=3)
        else:
            self.saved.append(path)


def open_run(run: Path | str | Run | Trained, prior: str = "usual") -> Opened:
    """Open a run folder for evaluation under a prior as in `Run.under`; a loaded model stays as it is.

    Raises:
        RequestError: if the folder is missing, unfinished or damaged, and as `Run.under`.
    """
    if isinstance(run, Opened):
        return run
    if isinstance(run, Trained):
        return Opened(run.run, run.model)
    opened = Run.open(run).under(prior)
    return Opened(opened, model_of(opened))


def beside(run: Run) -> Run | None:
    """Return a run under its fitted prior; None if it has none, with a warning if it has one of no use."""
    if not run.settings.model.latent or not (run.folder / FOLDER / "prior.json").exists():
        return None
    try:
        return run.under("fitted")
    except RequestError as error:
        warnings.warn(f"the fitted prior is left out: {error}", stacklevel=2)
        return None


def check_finite(run: Run, split: str, scores: Scores) -> None:
    """Raise WorkError if the reconstruction or KL of a sentence is not finite."""
    for name, values in (("reconstruction", scores.reconstruction), ("KL", scores.rate)):
        if values is not None and (wrong := int((~values.isfinite()).sum())):
            raise WorkError(
                f"{run.folder}: the {name} of {wrong:,} of {len(values):,} sentences of {split} is not finite: the "
                "weights give numbers that are too large to compute with; train again with a lower "
                "train.optimizer.lr"
            )
