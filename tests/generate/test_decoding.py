import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2
from torch import nn

from textvae.errors import RequestError
from textvae.generate import decoding
from textvae.generate.decoding import CHOICES, Decoding, beams, generate, greedy, sample
from textvae.metrics.content import loops
from textvae.parts.decoders.recurrent import RecurrentDecoder
from textvae.parts.noise import uniform
from textvae.text.tokenizers import BOS, EOS, PAD, UNK

A, B, C, D = 4, 5, 6, 7


class Chain(nn.Module):
    """Each word from the one before it by a table; a code of one number is added to the end mark's logit."""

    def __init__(self, follows, words=8, max_length=None):
        super().__init__()
        table = torch.full((words, words), -math.inf)
        for word, probabilities in follows.items():
            for other, probability in probabilities.items():
                table[word, other] = math.log(probability)
        self.table, self.max_length = nn.Parameter(table), max_length
        self.stepped = []

    def start(self, z, rows=1):
        return torch.zeros(rows, 1) if z is None else z

    def step(self, token, state):
        assert len(token) == len(state)
        self.stepped.append(len(token))
        logits = self.table[token]
        logits[:, EOS] += state[:, 0]
        return logits, state

    def select(self, state, rows):
        return state[rows]


def recurrent(cell="lstm", latent=3, words=20, layers=1, **settings):
    torch.manual_seed(0)
    decoder = RecurrentDecoder(words, 6, latent, cell, 8, layers, **settings).eval()
    for parameter in decoder.parameters():
        nn.init.uniform_(parameter, -1.0, 1.0)
    nn.init.constant_(decoder.words.bias[EOS], 1.2)  # for sentences of many lengths
    return decoder


def one_word(probabilities):
    """A decoder of sentences of one word."""
    ends = {word: {EOS: 1.0} for word in (UNK, A, B, C, D)}
    return Chain({BOS: probabilities, **ends})


def agrees(counts, expected):
    """Whether counts are what the probabilities give: a chi-square test that a right program fails once in 10^4."""
    total = sum(counts.values())
    assert set(counts) <= set(expected)
    statistic = sum((counts[key] - total * p) ** 2 / (total * p) for key, p in expected.items())
    return statistic <= (chi2.isf(1e-4, len(expected) - 1) if len(expected) > 1 else 0)


def test_greedy_takes_the_likeliest_word_until_the_end_mark():
    chain = Chain({BOS: {A: 0.6, B: 0.4}, A: {B: 0.9, EOS: 0.1}, B: {EOS: 0.5, A: 0.4, C: 0.1}})
    assert greedy(chain, None, 10) == [[A, B]]
    assert greedy(chain, None, 10, rows=3) == [[A, B]] * 3
    assert greedy(chain, torch.tensor([[0.0], [-9.0], [9.0]]), 3) == [[A, B], [A, B, A], [A]]


@pytest.mark.parametrize("chunk", [1, 2, 5])
def test_without_an_end_every_text_has_all_its_tokens(chunk):
    chain = Chain({BOS: {A: 0.6, EOS: 0.4}, A: {EOS: 0.9, B: 0.1}, EOS: {B: 0.5, EOS: 0.4, C: 0.1}, B: {A: 1.0}})
    codes = torch.tensor([[0.0], [9.0], [-9.0], [0.0], [9.0]])
    found = generate(chain, codes, Decoding(), 5, chunk=chunk, end=False)
    runs = [A, EOS, B, A, EOS], [EOS] * 5, [A, B, A, B, A]
    assert found == [runs[0], runs[1], runs[2], runs[0], runs[1]]
    drawn = generate(chain, codes, Decoding("sample"), 50, seed=1, chunk=chunk, end=False)
    assert drawn == generate(chain, codes, Decoding("sample"), 50, seed=1, end=False)
    assert {len(row) for row in drawn} == {50} and any(EOS in row[:-1] for row in drawn)
    # Until the first end mark it is the sentence that ends there.
    sentences = generate(chain, codes, Decoding("sample"), 50, seed=1)
    assert sentences == [(row + [EOS])[: (row + [EOS]).index(EOS)] for row in drawn]


def test_a_sentence_that_does_not_end_is_cut():
    chain = Chain({BOS: {A: 1.0}, A: {B: 1.0}, B: {A: 1.0}})
    assert greedy(chain, None, 5) == [[A, B, A, B, A]]
    chain.max_length = 2
    assert greedy(chain, None, 5) == [[A, B]]
    assert sample(chain, None, 1, seed=0) == [[A]]


@pytest.mark.parametrize("name, options", [("greedy", {}), ("sample", {}), ("beam", {"beam": 2})])
def test_a_length_that_a_decoder_does_not_have_is_refused(name, options):
    ends = {word: {EOS: 1.0} for word in range(8)}
    chain = Chain({**ends, BOS: {A: 1.0}, A: {B: 1.0}}, max_length=3)
    assert generate(chain, None, Decoding(name, max_length=3, **options), 3) == [[A, B]]
    asked = Decoding(name, max_length=4, **options)
    message = r"max_length = 4: this model unfolds a code into 3 positions, .*; give that or less"
    with pytest.raises(RequestError, match=message):
        generate(chain, None, asked, 4)
    if name == "beam":
        with pytest.raises(RequestError, match=message):
            beams(chain, None, asked, 4)


def test_an_empty_sentence_and_no_sentence():
    chain = Chain({BOS: {EOS: 1.0}})
    assert greedy(chain, None, 5, rows=2) == [[], []]
    assert greedy(chain, None, 5, rows=0) == []
    assert greedy(recurrent(), torch.zeros(0, 3), 5) == []


@pytest.mark.parametrize(
    "how", [Decoding(), Decoding("sample"), Decoding("top-k", top_k=8), Decoding("nucleus", top_p=0.9)]
)
def test_padding_and_begin_mark_are_never_generated_and_unknown_words_by_leave(how):
    chain = one_word({PAD: 0.4, BOS: 0.3, UNK: 0.2, A: 0.06, B: 0.04})
    found = Counter(word for (word,) in generate(chain, None, replace(how, allow_unknown=True), 3, rows=500))
    assert UNK in found and not {PAD, BOS} & set(found)
    found = Counter(word for (word,) in generate(chain, None, how, 3, rows=500))
    assert A in found and set(found) <= {A, B}


def test_samples_follow_the_decoders_distribution_over_whole_sentences():
    chain = Chain({BOS: {A: 0.7, B: 0.3}, A: {A: 0.2, B: 0.3, EOS: 0.5}, B: {A: 0.6, EOS: 0.4}})
    found = Counter(tuple(ids) for ids in sample(chain, None, 2, seed=3, rows=20_000))
    assert agrees(
        found,
        {
            (A,): 0.7 * 0.5,
            (A, A): 0.7 * 0.2,
            (A, B): 0.7 * 0.3,
            (B,): 0.3 * 0.4,
            (B, A): 0.3 * 0.6,
        },
    )
    assert not agrees(found, {(A,): 0.37, (A, A): 0.12, (A, B): 0.21, (B,): 0.12, (B, A): 0.18})


# p = 0.4, 0.3, 0.2, 0.1; at temperature 1/2 the squares 16, 9, 4, 1 of 30.
@pytest.mark.parametrize(
    "how, expected",
    [
        (Decoding("sample"), {A: 0.4, B: 0.3, C: 0.2, D: 0.1}),
        (Decoding("sample", temperature=0.5), {A: 16 / 30, B: 9 / 30, C: 4 / 30, D: 1 / 30}),
        (Decoding("top-k", top_k=2), {A: 4 / 7, B: 3 / 7}),
        (Decoding("top-k", top_k=1), {A: 1.0}),
        (Decoding("top-k", top_k=99), {A: 0.4, B: 0.3, C: 0.2, D: 0.1}),
        (Decoding("top-k", temperature=0.5, top_k=3), {A: 16 / 29, B: 9 / 29, C: 4 / 29}),
        (Decoding("nucleus", top_p=1.0), {A: 0.4, B: 0.3, C: 0.2, D: 0.1}),
        (Decoding("nucleus", top_p=0.91), {A: 0.4, B: 0.3, C: 0.2, D: 0.1}),
        (Decoding("nucleus", top_p=0.89), {A: 4 / 9, B: 3 / 9, C: 2 / 9}),
        (Decoding("nucleus", top_p=0.71), {A: 4 / 9, B: 3 / 9, C: 2 / 9}),  # the word that crosses is kept
        (Decoding("nucleus", top_p=0.69), {A: 4 / 7, B: 3 / 7}),
        (Decoding("nucleus", top_p=0.39), {A: 1.0}),
        (Decoding("nucleus", top_p=1e-60), {A: 1.0}),
        # The temperature comes first: 16/30 = 0.53 alone would not be short of 0.5.
        (Decoding("nucleus", temperature=0.5, top_p=0.5), {A: 1.0}),
    ],
    ids=str,
)
def test_the_words_picked_and_how_often_as_computed_by_hand(how, expected):
    words = one_word({B: 0.3, D: 0.1, A: 0.4, C: 0.2})
    found = Counter(word for (word,) in generate(words, None, how, 3, seed=1, rows=10_000))
    assert agrees(found, expected)


def test_words_as_likely_as_the_one_that_crosses_are_in_the_nucleus():
    words = one_word({A: 0.25, B: 0.25, C: 0.25, D: 0.25})
    found = Counter(word for (word,) in generate(words, None, Decoding("nucleus", top_p=0.3), 3, rows=2_000))
    assert agrees(found, dict.fromkeys((A, B, C, D), 0.25))


@given(st.integers(0, 2**31), st.floats(0.01, 1.0), st.floats(0.3, 3.0))
@settings(max_examples=60, deadline=None)
def test_a_nucleus_is_what_sorting_finds(seed, top_p, temperature):
    logits = 3 * torch.randn(1, 50, generator=torch.Generator().manual_seed(seed))
    likeliest, order = (logits[0].double() / temperature).softmax(0).sort(descending=True)
    size = 1 + int((likeliest.cumsum(0)[:-1] < top_p).sum())
    choose = CHOICES["nucleus"](Decoding("nucleus", temperature=temperature, top_p=top_p))
    keys = torch.arange(400)
    found = choose(logits.expand(400, -1), lambda attempt: uniform(keys, 0, attempt))
    # A mass within a rounding of top_p may fall to either side.
    near = [n for n in (size - 1, size + 1) if n and abs(likeliest[: min(n, size)].sum() - top_p) < 1e-6]
    assert set(found.tolist()) <= set(order[: max([size, *near])].tolist())
    assert set(order[: min([size, *near])][likeliest[: min([size, *near])] > 0.05].tolist()) <= set(found.tolist())


def test_a_word_without_mass_is_never_drawn_not_even_at_the_ends():
    mass = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).expand(5, -1)
    uniform = torch.tensor([0.0, 0.4999999, 0.5, 0.75, 1 - 2**-24])
    assert decoding._drawn(mass, uniform).tolist() == [1, 1, 3, 3, 3]


def test_random_numbers_are_those_of_splitmix64():
    # The generator's published first outputs for this seed; a draw is the high 24 bits.
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    for time, output in enumerate(outputs):
        (number,) = uniform(torch.tensor([1234567]), time, 0).tolist()
        assert number == (output >> 40) / 2**24
    numbers = torch.stack([uniform(torch.arange(5000), t, a) for t in (0, 1) for a in (0, 1)])
    assert 0 <= numbers.min() and numbers.max() < 1
    torch.testing.assert_close(numbers.mean(1), torch.full((4,), 0.5), atol=0.02, rtol=0)
    assert (torch.corrcoef(numbers) - torch.eye(4)).abs().max() < 0.06


EACH = [
    Decoding(),
    Decoding("sample", temperature=0.8),
    Decoding("top-k", top_k=5),
    Decoding("nucleus", top_p=0.7),
]


@pytest.mark.parametrize("how", EACH, ids=lambda how: how.name)
def test_a_row_is_decoded_the_same_in_any_chunk_and_beside_any_other_rows(how):
    decoder, z = recurrent(), torch.randn(40, 3)
    whole = generate(decoder, z, how, 12, seed=5)
    assert len({tuple(ids) for ids in whole}) > 5 and len({len(ids) for ids in whole}) > 2
    for chunk in (1, 7, 39):
        assert generate(decoder, z, how, 12, seed=5, chunk=chunk) == whole
    assert generate(decoder, z[:11], how, 12, seed=5) == whole[:11]
    assert generate(decoder, torch.cat([z[:11], -z]), how, 12, seed=5)[:11] == whole[:11]
    again = generate(decoder, z, how, 12, seed=6)
    assert (again == whole) == (how.name == "greedy")


def test_longer_sentences_begin_with_the_shorter_ones():
    decoder, z = recurrent(), torch.randn(30, 3)
    longer = sample(decoder, z, 12, seed=1)
    assert sample(decoder, z, 4, seed=1) == [ids[:4] for ids in longer]


def test_equal_codes_get_noise_of_their_own():
    assert len({tuple(ids) for ids in sample(recurrent(), torch.zeros(50, 3), 12, seed=0)}) > 30


def test_rows_that_have_ended_take_no_more_time():
    chain = Chain({BOS: {A: 1.0}, A: {A: 0.5, EOS: 0.5}})
    z = torch.full((64, 1), 9.0)
    z[[3, 40]] = -9.0
    found = greedy(chain, z, 10)
    assert [len(ids) for ids in found] == [10 if row in (3, 40) else 1 for row in range(64)]
    assert chain.stepped == [64, 64, *[2] * 8]
    chain.stepped.clear()
    greedy(chain, torch.full((64, 1), 9.0), 10)
    assert chain.stepped == [64, 64]


@pytest.mark.parametrize("cell, layers, latent", [("lstm", 1, 3), ("gru", 2, 3), ("lstm", 2, 0)])
def test_generation_and_training_give_a_word_the_same_probability(cell, layers, latent):
    decoder = recurrent(cell, latent, layers=layers, dropout=0.3, word_keep=0.5)
    z = torch.randn(6, latent) if latent else None
    with torch.no_grad():
        for row, words in enumerate(greedy(decoder, z, 8, rows=6)):
            code = None if z is None else z[row : row + 1]
            ids = torch.tensor([[*words, EOS]])
            state, token, stepped = decoder.start(code), torch.tensor([BOS]), []
            for word in ids[0]:
                logits, state = decoder.step(token, state)
                stepped.append(logits.log_softmax(1)[0, word])
                token = word[None]
            teacher_forced = decoder.log_prob(ids, None if code is None else code[None])[0, 0]
            torch.testing.assert_close(torch.stack(stepped), teacher_forced, atol=1e-5, rtol=1e-5)


def test_no_other_word_is_likelier_than_the_greedy_one_under_teacher_forcing():
    decoder, z = recurrent(), torch.randn(5, 3)
    others = [word for word in range(20) if word not in (PAD, BOS)]
    with torch.no_grad():
        for code, words in zip(z, greedy(decoder, z, 8), strict=True):
            ended = [*words, EOS] if len(words) < 8 else words
            for time, word in enumerate(ended):
                ids = torch.tensor([[*ended[:time], other] for other in others])
                scores = decoder.log_prob(ids, code.expand(1, len(others), -1))[0, :, time]
                assert others[int(scores.argmax())] == word


def test_a_language_model_decodes_without_codes():
    decoder = recurrent(latent=0)
    assert len({tuple(ids) for ids in greedy(decoder, None, 6, rows=4)}) == 1
    assert len({tuple(ids) for ids in sample(decoder, None, 6, seed=0, rows=40)}) > 20


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            {"temperature": 0.0, "name": "sample"},
            "temperature = 0.0: must be 0.001 or more; the limit at 0 is greedy",
        ),
        ({"temperature": math.nan, "name": "sample"}, "temperature = nan: must be 0.001 or more"),
        ({"temperature": math.inf, "name": "sample"}, "temperature = inf: must be finite"),
        ({"temperature": 1e39, "name": "sample"}, r"temperature = 1e\+39: must be finite, and 1e\+38 or"),
        ({"temperature": 0.5}, "temperature = 0.5: has no effect on greedy decoding; decode by 'sample'"),
        ({"name": "top-k"}, "top_k = 0: top-k decoding needs 1 or more"),
        ({"name": "nucleus", "top_k": 5}, "top_k = 5: has no effect on nucleus decoding; decode by 'top-k'"),
        ({"name": "nucleus", "top_p": 1.5}, r"top_p = 1.5: must be in \(0, 1\]"),
        ({"name": "nucleus", "top_p": 0.0}, r"top_p = 0.0: must be in \(0, 1\]"),
        ({"top_p": 0.9}, "top_p = 0.9: has no effect on greedy decoding; decode by 'nucleus'"),
        ({"name": "nuclues"}, "decoding 'nuclues': unknown; did you mean 'nucleus'?"),
        ({"name": "lottery"}, "decoding 'lottery': unknown; known: beam, greedy, sample, top-k, nucleus"),
    ],
)
def test_impossible_decodings_are_refused(arguments, message):
    with pytest.raises(RequestError, match=message):
        Decoding(**arguments)


def test_impossible_sizes_are_refused():
    for arguments, message in [
        ({"max_length": 0}, "max_length = 0: must be 1 or more"),
        ({"max_length": 3, "rows": -1}, "rows = -1: must be 0 or more"),
        ({"max_length": 3, "chunk": 0}, "chunk = 0: must be 1 or more"),
    ]:
        with pytest.raises(RequestError, match=message):
            greedy(Chain({BOS: {EOS: 1.0}}), None, **arguments)


def test_beam_decoding_is_the_best_of_its_search_whatever_the_chunks(monkeypatch):
    decoder, z = recurrent(), torch.randn(7, 3)
    way = Decoding("beam", beam=4, normalisation=0.5)
    found = decoding.beams(decoder, z, way, 9)
    assert generate(decoder, z, way, 9) == [texts[0].ids for texts in found]
    monkeypatch.setattr(decoding, "ROWS", 8)  # two codes at a time
    assert generate(decoder, z, way, 9) == [texts[0].ids for texts in found]
    for code, texts in zip(z, found, strict=True):
        scores = [text.log_prob / (len(text.ids) + text.ended) ** 0.5 for text in texts]
        assert len(texts) == 4 and scores == sorted(scores, reverse=True)
        ids = torch.tensor([texts[0].ids + [EOS] * texts[0].ended])
        assert texts[0].log_prob == pytest.approx(decoder.log_prob(ids, code[None, None]).sum().item(), abs=1e-4)


def test_what_padding_and_the_begin_mark_have_is_lost_in_log_p_and_to_nothing_that_is_drawn():
    """`softmax:all-ids` of signatures: a text's log p is the model's, before anything is banned."""
    model = Chain({BOS: {PAD: 0.3, BOS: 0.2, A: 0.4, B: 0.1}, A: {PAD: 0.5, EOS: 0.5}, B: {EOS: 1.0}})
    (texts,) = beams(model, None, Decoding("beam", beam=2), 3)
    assert [text.ids for text in texts] == [[A], [B]]
    assert [math.exp(text.log_prob) for text in texts] == pytest.approx([0.4 * 0.5, 0.1], rel=1e-5)
    drawn = Counter(tuple(ids) for ids in sample(model, None, 3, seed=0, rows=2000))
    assert agrees(drawn, {(A,): 0.8, (B,): 0.2})


def test_a_beam_of_one_is_greedy():
    decoder, z = recurrent(), torch.randn(20, 3)
    assert generate(decoder, z, Decoding("beam", beam=1), 12) == greedy(decoder, z, 12)


@pytest.mark.parametrize("name, options", [("greedy", {}), ("sample", {}), ("beam", {"beam": 3})])
def test_no_text_ends_before_its_least_length(name, options):
    decoder, z = recurrent(), torch.randn(40, 3)
    free = generate(decoder, z, Decoding(name, **options), 12)
    longer = generate(decoder, z, Decoding(name, min_length=5, **options), 12)
    assert min(map(len, free)) < 5 <= min(map(len, longer))
    with pytest.raises(RequestError, match="min_length = 5: no text has more than 4 words"):
        generate(decoder, z, Decoding(name, min_length=5, **options), 4)


def repeats(ids, n):
    """Whether a sequence of n tokens comes twice in a text."""
    sequences = [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
    return len(set(sequences)) < len(sequences)


def naive_greedy(decoder, z, n, length, least):
    """The likeliest word at each step that is not banned, one text at a time."""
    texts = []
    for code in z:
        state, token, ids = decoder.start(code[None], 1), torch.tensor([BOS]), []
        while len(ids) < length:
            with torch.no_grad():
                logits, state = decoder.step(token, state)
            usable = [EOS] * (len(ids) >= least) + list(range(4, logits.shape[1]))
            usable = [word for word in usable if word == EOS or not repeats([*ids, word], n)] or [EOS]
            token = torch.tensor([max(usable, key=logits[0].__getitem__)])
            if token == EOS:
                break
            ids.append(token.item())
        texts.append(ids)
    return texts


@pytest.mark.parametrize("n, least", [(1, 0), (1, 30), (2, 0), (2, 12), (3, 9)])
def test_no_sequence_of_n_words_comes_twice_against_a_naive_search(n, least):
    decoder, z = recurrent(words=12), 3 * torch.randn(40, 3)
    way = Decoding(no_repeat=n, min_length=least)
    free = generate(decoder, z, Decoding(min_length=least), 40)
    assert any(repeats(ids, n) for ids in free)
    found = generate(decoder, z, way, 40, chunk=7)
    assert found == naive_greedy(decoder, z, n, 40, least)
    assert generate(decoder, z, replace(way, name="beam", beam=1), 40) == found
    if n == 1 and least:
        assert {len(ids) for ids in found} == {8}  # every word once, and then the end, however early it is


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize(
    "way",
    [Decoding("sample"), Decoding("top-k", top_k=3), Decoding("nucleus", top_p=0.5), Decoding("beam", beam=4)],
)
def test_no_way_of_decoding_repeats_a_sequence(way, n):
    decoder, z = recurrent(words=9), 3 * torch.randn(60, 3)
    assert any(repeats(ids, n) for ids in generate(decoder, z, replace(way, min_length=6), 20, seed=1))
    found = generate(decoder, z, replace(way, no_repeat=n, min_length=6), 20, seed=1)
    assert not any(repeats(ids, n) for ids in found)
    if n == 2:
        assert not any(loops(list(map(str, ids))) for ids in found)
    lines = generate(decoder, z[:8], replace(way, no_repeat=n), 20, seed=1, end=False)
    for ids in lines:  # sequences do not cross the ends of lines, which may come again
        assert len(ids) == 20 or way.name == "beam"
        sequences = [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1) if EOS not in ids[at : at + n]]
        assert len(set(sequences)) == len(sequences)


def test_what_has_not_been_repeated_is_as_likely_as_before():
    decoder, z = recurrent(), torch.randn(30, 3)
    free, without = (generate(decoder, z, Decoding(no_repeat=n), 12) for n in (0, 4))
    assert [a == b for a, b in zip(free, without, strict=True)] == [not repeats(ids, 4) for ids in free]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"no_repeat": -1}, "no_repeat = -1: must be 0 or more"),
        ({"name": "beam"}, "beam = 0: beam decoding needs 1 or more"),
        ({"name": "greedy", "beam": 3}, "beam = 3: has no effect on greedy decoding; decode by 'beam'"),
        ({"name": "beam", "beam": 3, "temperature": 0.5}, "temperature = 0.5: has no effect on beam decoding"),
        ({"name": "beam", "beam": 3, "normalisation": -1.0}, "normalisation = -1.0: must be 0 or more"),
        (
            {"name": "beam", "beam": 3, "normalisation": 1e3},
            "normalisation = 1000.0: must be 0 or more, and 50 at most",
        ),
        (
            {"name": "top-k", "top_k": 3, "normalisation": 1.0},
            "normalisation = 1.0: has no effect on top-k decoding",
        ),
        ({"min_length": -1}, "min_length = -1: must be 0 or more"),
        ({"max_length": 2**63}, "max_length = 9223372036854775808: must be 0 or more, and 2147483647 or less"),
        ({"name": "beam", "beam": 2**63}, "beam = 9223372036854775808: must be 0 or more, and 2147483647 or less"),
    ],
)
def test_beams_that_cannot_be(options, message):
    with pytest.raises(RequestError, match=message):
        Decoding(**options)
