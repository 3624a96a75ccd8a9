"""Adversarial evaluation: accuracy of classifiers that separate texts completed by a model from true ones."""

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textvae.errors import RequestError
from textvae.metrics.likelihood import standard_error
from textvae.metrics.ngrams import Text
from textvae.metrics.splits import groups_of, held_out, numbered
from textvae.parts.encoders.recurrent import RecurrentEncoder
from textvae.text.batches import epoch_batches
from textvae.text.cutting import SPECIALS
from textvae.text.tokenizers import EOS, PAD, UNK

# The input of a classifier: the words of a text.
Words = Sequence[str]

# Words of fewer training pairs become the unknown word.
PAIRS_OF_A_WORD = 2
# Epochs without improvement on the validation part before a classifier stops.
PATIENCE = 3
# Stochastic gradient descent of the logistic regression: step, shrinkage, and most epochs.
STEP, SHRINKAGE, SWEEPS = 0.01, 1e-6, 200
# The LSTM classifier: sizes, learning, and most epochs.
EMBEDDING, HIDDEN, DROPOUT, BATCH, RATE, EPOCHS = 128, 128, 0.3, 128, 2e-3, 50
# Texts classified by the LSTM at once.
ROWS = 2000
# Pairs whose words are counted at once.
PIECE = 2**15


@dataclass(frozen=True)
class AdversarialError:
    """Accuracy of a classifier on `texts` unseen texts, half of them true.

    Attributes:
        accuracy: Share of correct answers, 0.5 by chance.
        epochs: Epochs trained before the classifier stopped improving.
        standard_error: Standard error of the accuracy, and so of the error, over independent groups of texts; None
        for a
            single group. A true text and its completion are one group, since a classifier that takes their common
            words for true is wrong about one of them; so are pairs with a text in common.
    """

    accuracy: float
    texts: int
    epochs: int
    standard_error: float | None

    @property
    def error(self) -> float:
        """Adversarial error: accuracy above chance. Lower is better for the completions."""
        return self.accuracy - 0.5

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON, with a reason for each null."""
        reasons = {}
        if self.standard_error is None:
            reasons["standard_error"] = "the tested pairs have texts in common: one group has no deviation"
        return {**asdict(self), "error": self.error, "reasons": reasons}


class Parts(NamedTuple):
    """Numbers of the texts for training, validation and test; groups stay together."""

    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]
    test: Int[np.ndarray, " test"]


class Texts(NamedTuple):
    """Texts of both kinds, the true ones first, with their truth and their groups.

    The numbers of the words are the ids that classifiers read: of the special tokens, and of the words in the
    training part.
    """

    words: Text
    true: Bool[np.ndarray, " text"]
    parts: Parts
    groups: Int[np.ndarray, " text"]

    def error(self, right: Bool[np.ndarray, " test"], epochs: int) -> AdversarialError:
        """Return the error of a classifier, given which test texts it classifies correctly."""
        found = standard_error(torch.from_numpy(right.astype(float)), self.groups[self.parts.test])
        return AdversarialError(float(right.mean()), len(right), epochs, None if math.isnan(found) else found)


def unigram_error(true: Sequence[Words], completed: Sequence[Words], seed: int = 0) -> AdversarialError:
    """Return the adversarial error of a logistic regression on word counts.

    `completed[i]` is the model's completion of the known part of `true[i]`. The regression is trained by stochastic
    gradient descent on about 80 % of the pairs, stopped by 10 %, and tested on 10 %. A true text and its completion
    are in the same part; otherwise a classifier could know the known half of a test text from training, with the
    wrong answer. Pairs that have a text of the same words in common, in any order, also stay together: copies, and
    siblings with one completion.

    Raises:
        RequestError: For fewer than ten pairs, texts that are not pairs, and too few groups of them to split.

    References:
        Bowman et al. 2016, section 5.
    """
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import SGDClassifier

    texts = coded(true, completed, seed)

    def counted(part: np.ndarray) -> csr_matrix:
        some = texts.words.chosen(part)
        ends = np.concatenate([np.zeros(1, np.int64), some.ends])
        return csr_matrix((np.ones(len(some.words)), some.words, ends), (len(part), len(some.vocabulary)))

    train, valid, test = ((counted(part), texts.true[part]) for part in texts.parts)
    order = np.random.RandomState(seed % 2**32)  # a number in its place would give every epoch the same order
    learner = SGDClassifier(
        loss="log_loss", alpha=SHRINKAGE, learning_rate="constant", eta0=STEP, random_state=order
    )
    best, right, epochs = math.inf, np.zeros(len(test[1]), dtype=bool), 0
    for epoch in range(1, SWEEPS + 1):
        learner.partial_fit(*train, classes=[False, True])
        loss = _loss(torch.from_numpy(learner.decision_function(valid[0])), valid[1])
        if loss < best:
            best, right, epochs = loss, learner.predict(test[0]) == test[1], epoch
        elif epoch - epochs == PATIENCE:
            break
    return texts.error(right, epochs)


def lstm_error(
    true: Sequence[Words], completed: Sequence[Words], seed: int = 0, device: torch.device | str = "cpu"
) -> AdversarialError:
    """Return the adversarial error of a logistic regression on the last output of an LSTM.

    Pairs and parts are those of `unigram_error`. On a CPU the same seed always gives the same number.

    Raises:
        RequestError: As `unigram_error`.

    References:
        Bowman et al. 2016, section 5.
    """
    device, texts = torch.device(device), coded(true, completed, seed)
    parts, lengths = texts.parts, texts.words.sizes() + 1
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = _Reader(len(texts.words.vocabulary)).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        best, kept, epochs = math.inf, copy.deepcopy(model.state_dict()), 0
        for epoch in range(1, EPOCHS + 1):
            model.train()
            for batch in epoch_batches(lengths[parts.train], BATCH, seed, epoch):
                rows = parts.train[batch]
                labels = torch.from_numpy(texts.true[rows]).to(device, torch.float32)
                odds = model(*_padded(texts.words, rows, device))
                loss = F.binary_cross_entropy_with_logits(odds, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            valid = _loss(_read(model, texts.words, parts.valid, device), texts.true[parts.valid])
            if valid < best:
                best, kept, epochs = valid, copy.deepcopy(model.state_dict()), epoch
            elif epoch - epochs == PATIENCE:
                break
    model.load_state_dict(kept)
    right = (_read(model, texts.words, parts.test, device) > 0).numpy() == texts.true[parts.test]
    return texts.error(right, epochs)


def coded(true: Sequence[Words], completed: Sequence[Words], seed: int) -> Texts:
    """Return both kinds of texts as ids of the words in the training part, and the parts.

    Raises:
        RequestError: As `unigram_error`.
    """
    pairs = len(true)
    if len(completed) != pairs:
        raise RequestError(f"adversarial evaluation: {len(completed)} completed texts for {pairs} true ones")
    if pairs < 10:
        raise RequestError(f"adversarial evaluation: {pairs} texts; it takes 10 or more, and thousands to say much")
    texts, tenth = Text.of(true, completed), pairs // 10
    groups = groups_of(*_keys(texts))
    order = np.random.default_rng([seed, 4]).permutation(int(groups.max()) + 1)
    cut = [rows[::-1] for rows in held_out(groups, order[::-1], [tenth, tenth])[::-1]]
    if not all(map(len, cut)):
        raise RequestError(
            f"adversarial evaluation: the {pairs:,} pairs have so many texts in common that they make only "
            f"{len(order):,} independent {'group' if len(order) == 1 else 'groups'}, too few to learn from some "
            "and test on others; give more different texts"
        )
    often = _pairs_of_words(texts, cut[0]) >= PAIRS_OF_A_WORD
    known = sorted((word, number) for number, word in enumerate(texts.vocabulary) if often[number])
    ids = np.full(len(often), UNK, np.int32)
    ids[[number for _, number in known]] = np.arange(len(SPECIALS), len(SPECIALS) + len(known))
    words = Text(ids[texts.words], texts.ends, [*SPECIALS, *(word for word, _ in known)])
    parts = Parts(*(np.concatenate([part, part + pairs]) for part in cut))
    return Texts(words, np.arange(2 * pairs) < pairs, parts, np.tile(groups, 2))


def _keys(texts: Text) -> tuple[Int[np.ndarray, " pair"], Int[np.ndarray, " pair"]]:
    """Return keys of both kinds of texts, equal if a classifier cannot distinguish them by word counts.

    A word of fewer pairs than `PAIRS_OF_A_WORD` is the unknown word, whatever the parts.
    """
    pairs = len(texts) // 2
    often = _pairs_of_words(texts, np.arange(pairs)) >= PAIRS_OF_A_WORD
    ids = np.where(often, np.arange(len(often), dtype=np.int32), np.int32(-1))
    begins = texts.ends - texts.sizes()
    bags = (np.sort(ids[texts.words[begin:end]]).tobytes() for begin, end in zip(begins, texts.ends, strict=True))
    keys = numbered(bags)
    return keys[:pairs], keys[pairs:]


def _pairs_of_words(texts: Text, rows: Int[np.ndarray, " row"]) -> Int[np.ndarray, " word"]:
    """Return in how many of some pairs each word is; text i and text i + n/2 are a pair."""
    counts, words = np.zeros(len(texts.vocabulary), np.int64), max(len(texts.vocabulary), 1)
    for begin in range(0, len(rows), PIECE):
        some = rows[begin : begin + PIECE]
        both = texts.chosen(np.concatenate([some, some + len(texts) // 2]))
        pair = np.repeat(np.tile(np.arange(len(some)), 2), both.sizes())
        counts += np.bincount(np.unique(pair * words + both.words) % words, minlength=len(counts))
    return counts


class _Reader(nn.Module):
    """Log odds that a text is true, from the output of an LSTM at its end mark."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder = RecurrentEncoder(vocabulary, EMBEDDING, hidden=HIDDEN, dropout=DROPOUT)
        self.odds = nn.Linear(HIDDEN, 1)

    def forward(self, ids: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        seen = F.dropout(self.encoder(ids, lengths), DROPOUT, self.training)
        return self.odds(seen)[:, 0]


def _padded(
    words: Text, rows: Int[np.ndarray, " row"], device: torch.device
) -> tuple[Int[Tensor, "row time"], Int[Tensor, " row"]]:
    """Return the ids of some texts, end marks included, and their lengths."""
    some = words.chosen(rows)
    lengths = some.sizes() + 1
    ids = np.full((len(rows), lengths.max()), PAD)
    places = np.arange(ids.shape[1])
    ids[places < lengths[:, None] - 1] = some.words
    ids[places == lengths[:, None] - 1] = EOS
    return torch.from_numpy(ids).to(device), torch.from_numpy(lengths).to(device)


@torch.no_grad()
def _read(
    model: _Reader, words: Text, rows: Int[np.ndarray, " row"], device: torch.device
) -> Float[Tensor, " row"]:
    """Return the log odds of some texts, on the CPU."""
    model.eval()
    some = (rows[begin : begin + ROWS] for begin in range(0, len(rows), ROWS))
    return torch.cat([model(*_padded(words, at, device)) for at in some]).cpu()


def _loss(odds: Float[Tensor, " row"], true: Bool[np.ndarray, " row"]) -> float:
    """Return the mean cross-entropy, in nats."""
    return F.binary_cross_entropy_with_logits(odds.double(), torch.from_numpy(true).double()).item()
