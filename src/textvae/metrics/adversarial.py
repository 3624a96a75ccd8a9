"""Adversarial evaluation: how well a classifier tells texts that a model completed from the true ones."""

import copy
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textvae.errors import RequestError
from textvae.metrics.likelihood import standard_error
from textvae.metrics.splits import bag, groups_of, held_out
from textvae.parts.encoders.recurrent import RecurrentEncoder
from textvae.text.batches import epoch_batches
from textvae.text.tokenizers import EOS, PAD, UNK

# A text as a classifier sees it: its words.
Words = Sequence[str]

# Words of fewer training pairs are the unknown word.
PAIRS_OF_A_WORD = 2
# Epochs without a better one on the validation part before a classifier stops.
PATIENCE = 3
# The logistic regression's stochastic gradient descent: step, shrinkage, and epochs at most.
STEP, SHRINKAGE, SWEEPS = 0.01, 1e-6, 200
# The LSTM classifier: sizes, learning, and epochs at most.
EMBEDDING, HIDDEN, DROPOUT, BATCH, RATE, EPOCHS = 128, 128, 0.3, 128, 2e-3, 50
# Texts that the LSTM classifies at once.
ROWS = 2000


@dataclass(frozen=True)
class AdversarialError:
    """How often a classifier is right about `texts` that it has not seen, half of them true.

    `accuracy` is a share, 0.5 by chance; `epochs` is how many the classifier learned before it got no better.
    `standard_error` is that of the accuracy, and so of the error, over independent groups of texts: a true text and
    its completion are one group, since a classifier that takes the words they share for true is wrong about one of
    them, and so are pairs with a text in common. None where there is one group only.
    """

    accuracy: float
    texts: int
    epochs: int
    standard_error: float | None

    @property
    def error(self) -> float:
        """The adversarial error: what the accuracy is above chance; the lower, the better the completions."""
        return self.accuracy - 0.5

    def document(self) -> dict[str, Any]:
        """As plain values for JSON: what is null has its reason."""
        reasons = {}
        if self.standard_error is None:
            reasons["standard_error"] = "the tested pairs have texts in common: one group has no deviation"
        return {**asdict(self), "error": self.error, "reasons": reasons}


class Parts(NamedTuple):
    """The numbers of the texts to learn from, to stop by and to count on: groups stay together."""

    train: Int[np.ndarray, " train"]
    valid: Int[np.ndarray, " valid"]
    test: Int[np.ndarray, " test"]


class Texts(NamedTuple):
    """The texts of both kinds as ids, the true ones first, which are true, and which are in a group."""

    ids: list[list[int]]
    true: Bool[np.ndarray, " text"]
    vocabulary: int
    parts: Parts
    groups: Int[np.ndarray, " text"]

    def error(self, right: Bool[np.ndarray, " test"], epochs: int) -> AdversarialError:
        """Return the error of a classifier, from which texts of the test part it is right about."""
        found = standard_error(torch.from_numpy(right.astype(float)), self.groups[self.parts.test])
        return AdversarialError(float(right.mean()), len(right), epochs, None if math.isnan(found) else found)


def unigram_error(true: Sequence[Words], completed: Sequence[Words], seed: int = 0) -> AdversarialError:
    """The adversarial error of a logistic regression on the words' counts.

    `completed[i]` is the model's completion of what is known of `true[i]`. Learned by stochastic gradient descent
    on about 80 % of the pairs, stopped by 10 %, counted on 10 %. A true text and its completion are in the same
    part: were they not, a classifier could know the known half of a test text from training, with the wrong answer.
    So are pairs that have a text of the same words in common, in any order: copies, and siblings with one
    completion.

    Raises:
        RequestError: for fewer than ten pairs, texts that are not pairs, and too few groups of them to split.

    Source: Bowman et al. 2016, section 5.
    """
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import SGDClassifier

    texts = coded(true, completed, seed)
    ends = np.cumsum([0, *map(len, texts.ids)])
    words = np.fromiter((word for row in texts.ids for word in row), np.int64, ends[-1])
    counts = csr_matrix((np.ones(len(words)), words, ends), (len(texts.ids), texts.vocabulary))
    train, valid, test = ((counts[part], texts.true[part]) for part in texts.parts)
    learner = SGDClassifier(
        loss="log_loss", alpha=SHRINKAGE, learning_rate="constant", eta0=STEP, random_state=seed % 2**32
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
    """The adversarial error of a logistic regression on the last output of an LSTM that reads to the end mark.

    Pairs and parts as for `unigram_error`. The same seed gives the same number on a CPU, where no two runs differ.

    Raises:
        RequestError: as `unigram_error`.

    Source: Bowman et al. 2016, section 5.
    """
    device, texts = torch.device(device), coded(true, completed, seed)
    lengths = np.array([len(row) + 1 for row in texts.ids])
    ids = np.full((len(lengths), lengths.max()), PAD)
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    ids[inside] = [word for row in texts.ids for word in (*row, EOS)]
    data = torch.from_numpy(ids).to(device)
    sizes = torch.from_numpy(lengths).to(device)
    wanted = torch.from_numpy(texts.true).to(device, torch.float32)
    parts = texts.parts
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = _Reader(texts.vocabulary).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        best, kept, epochs = math.inf, copy.deepcopy(model.state_dict()), 0
        for epoch in range(1, EPOCHS + 1):
            model.train()
            for batch in epoch_batches(lengths[parts.train], BATCH, seed, epoch):
                rows = parts.train[batch]
                at, longest = torch.from_numpy(rows).to(device), lengths[rows].max()
                loss = F.binary_cross_entropy_with_logits(model(data[at, :longest], sizes[at]), wanted[at])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            valid = _loss(_read(model, data, sizes, parts.valid), texts.true[parts.valid])
            if valid < best:
                best, kept, epochs = valid, copy.deepcopy(model.state_dict()), epoch
            elif epoch - epochs == PATIENCE:
                break
    model.load_state_dict(kept)
    right = (_read(model, data, sizes, parts.test) > 0).numpy() == texts.true[parts.test]
    return texts.error(right, epochs)


def coded(true: Sequence[Words], completed: Sequence[Words], seed: int) -> Texts:
    """Both kinds of texts as ids of the words that the training part has, and the parts.

    Raises:
        RequestError: as `unigram_error`.
    """
    pairs = len(true)
    if len(completed) != pairs:
        raise RequestError(f"adversarial evaluation: {len(completed)} completed texts for {pairs} true ones")
    if pairs < 10:
        raise RequestError(f"adversarial evaluation: {pairs} texts; it takes 10 or more, and thousands to say much")
    groups, tenth = groups_of(*_keys(true, completed)), pairs // 10
    order = np.random.default_rng([seed, 4]).permutation(int(groups.max()) + 1)
    cut = [rows[::-1] for rows in held_out(groups, order[::-1], [tenth, tenth])[::-1]]
    if not all(map(len, cut)):
        raise RequestError(
            f"adversarial evaluation: the {pairs:,} pairs have so many texts in common that they make only "
            f"{len(order):,} independent {'group' if len(order) == 1 else 'groups'}, too few to learn from some "
            "and test on others; give more different texts"
        )
    known: Counter[str] = Counter()
    for pair in cut[0].tolist():
        known.update({*true[pair], *completed[pair]})
    words = sorted(word for word, count in known.items() if count >= PAIRS_OF_A_WORD)
    numbers = {word: number for number, word in enumerate(words, EOS + 1)}
    ids = [[numbers.get(word, UNK) for word in text] for text in (*true, *completed)]
    parts = Parts(*(np.concatenate([part, part + pairs]) for part in cut))
    return Texts(ids, np.arange(2 * pairs) < pairs, len(words) + EOS + 1, parts, np.tile(groups, 2))


def _keys(true: Sequence[Words], completed: Sequence[Words]) -> tuple[list[Hashable], list[Hashable]]:
    """Keys of both kinds of texts, equal for those that a classifier cannot tell apart by their words' counts.

    A word of fewer pairs than `PAIRS_OF_A_WORD` is the unknown word, whatever the parts.
    """
    pairs = Counter(word for texts in zip(true, completed, strict=True) for word in {*texts[0], *texts[1]})
    rare = {word for word, count in pairs.items() if count < PAIRS_OF_A_WORD}
    one, other = (
        [bag(UNK if word in rare else word for word in text) for text in texts] for texts in (true, completed)
    )
    return one, other


class _Reader(nn.Module):
    """The log odds that a text is true, from the output of an LSTM at its end mark."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.encoder = RecurrentEncoder(vocabulary, EMBEDDING, hidden=HIDDEN, dropout=DROPOUT)
        self.odds = nn.Linear(HIDDEN, 1)

    def forward(self, ids: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        seen = F.dropout(self.encoder(ids, lengths), DROPOUT, self.training)
        return self.odds(seen)[:, 0]


@torch.no_grad()
def _read(model: _Reader, data: Tensor, sizes: Tensor, rows: np.ndarray) -> Float[Tensor, " row"]:
    """The log odds of some texts, on the CPU."""
    model.eval()
    at = torch.from_numpy(rows).to(data.device).split(ROWS)
    return torch.cat([model(data[some], sizes[some]) for some in at]).cpu()


def _loss(odds: Float[Tensor, " row"], true: Bool[np.ndarray, " row"]) -> float:
    """The mean cross-entropy, in nats."""
    return F.binary_cross_entropy_with_logits(odds.double(), torch.from_numpy(true).double()).item()
