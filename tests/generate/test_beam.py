import itertools
import math

import pytest
import torch
from torch import nn

from textvae.generate.bans import Bans
from textvae.generate.beam import BLANK, Search, beam
from textvae.parts.decoders.recurrent import RecurrentDecoder
from textvae.text.tokenizers import BOS, EOS, PAD, UNK

WORDS = 7  # the four special ones and three more
FREE = (UNK, 4, 5, 6)


def decoder(seed: int = 0, latent: int = 2) -> RecurrentDecoder:
    torch.manual_seed(seed)
    made = RecurrentDecoder(WORDS, 4, latent, "lstm", 6).eval()
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -1.5, 1.5)
    return made


def nats(made: RecurrentDecoder, z: torch.Tensor, ids: tuple[int, ...]) -> float:
    with torch.no_grad():
        return made.log_prob(torch.tensor([ids]), z[None, None]).double().sum().item()


def every(made: RecurrentDecoder, z: torch.Tensor, longest: int, words=FREE, least: int = 0):
    """Every text with its log-probability: those that end before `longest` words, and those that are cut there."""
    for length in range(longest + 1):
        for text in itertools.product(words, repeat=length):
            if length == longest:
                yield nats(made, z, text), text, False
            elif length >= least:
                yield nats(made, z, (*text, EOS)), text, True


@pytest.mark.parametrize("normalisation", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_as_wide_as_all_beginnings_finds_the_best_texts_of_all(seed, normalisation):
    made, z = decoder(seed), torch.randn(3, 2, generator=torch.Generator().manual_seed(seed))
    search = Search(4**3, 3, normalisation)
    for code, found in zip(z, beam(made, z, 3, search), strict=True):
        best = sorted(every(made, code, 3), key=lambda one: -one[0] / (len(one[1]) + one[2]) ** normalisation)
        for text, (log_prob, ids, ended) in zip(found[:20], best[:20], strict=True):
            assert (tuple(text.ids), text.ended) == (ids, ended)
            assert text.log_prob == pytest.approx(log_prob, abs=1e-5)


def test_a_beam_of_the_vocabularys_size_finds_the_likeliest_of_two_words():
    for seed in range(20):
        made, z = decoder(seed), torch.randn(1, 2)
        found = beam(made, z, 1, Search(WORDS, 2))[0][0]
        log_prob, ids, ended = max(every(made, z[0], 2))
        assert (tuple(found.ids), found.ended) == (ids, ended)
        assert found.log_prob == pytest.approx(log_prob, abs=1e-5)


def naive(made: RecurrentDecoder, z: torch.Tensor, size: int, longest: int) -> list[tuple[float, tuple[int, ...]]]:
    """The same search for one code, with lists, scoring each text from its beginning."""
    live, ended = [(0.0, ())], []
    for _ in range(longest):
        following = sorted(
            ((nats(made, z, (*text, word)), (*text, word)) for _, text in live for word in (*FREE, EOS)),
            reverse=True,
        )[: 2 * size]
        ended += [one for rank, one in enumerate(following) if one[1][-1] == EOS and rank < size]
        live = [one for one in following if one[1][-1] != EOS][:size]
    return sorted(ended + live, reverse=True)[:size]


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_against_a_naive_search(size):
    made, z = decoder(size), torch.randn(4, 2)
    for code, found in zip(z, beam(made, z, 4, Search(size, 6)), strict=True):
        expected = naive(made, code, size, 6)
        assert [(*text.ids, EOS) if text.ended else tuple(text.ids) for text in found] == [t for _, t in expected]
        assert [text.log_prob for text in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_codes_do_not_depend_on_each_other():
    made, z = decoder(4), torch.randn(5, 2)
    together = beam(made, z, 5, Search(3, 8))
    for row in range(5):
        alone = beam(made, z[row : row + 1], 1, Search(3, 8))[0]
        assert [text.ids for text in alone] == [text.ids for text in together[row]]


def test_what_is_banned_is_not_written_and_takes_no_mass():
    made, z = decoder(1), torch.randn(2, 2)
    search = Search(4, 4, bans=Bans((PAD, BOS, UNK), min_length=2))
    for code, found in zip(z, beam(made, z, 2, search), strict=True):
        for text in found:
            assert UNK not in text.ids and len(text.ids) >= 2
            ids = (*text.ids, EOS) if text.ended else tuple(text.ids)
            assert text.log_prob == pytest.approx(nats(made, code, ids), abs=1e-5)


def test_without_an_end_every_text_has_all_its_tokens():
    made, z = decoder(2), torch.randn(2, 2)
    for code, found in zip(z, beam(made, z, 2, Search(5**3, 3, end=False)), strict=True):
        texts = itertools.product((*FREE, EOS), repeat=3)
        best = sorted(((nats(made, code, text), text) for text in texts), reverse=True)
        assert [tuple(text.ids) for text in found[:10]] == [text for _, text in best[:10]]


@pytest.mark.parametrize("seed", range(5))
def test_a_template_keeps_what_is_given_and_finds_the_best_of_the_rest(seed):
    made, z = decoder(seed), torch.randn(2, 2)
    templates = torch.tensor([[4, BLANK, UNK, BLANK, EOS, PAD], [BLANK, BLANK, 5, 6, BLANK, EOS]])
    found = beam(made, z, 2, Search(3**3, 10, bans=Bans((PAD, BOS, UNK))), templates)
    for code, template, texts in zip(z, templates.tolist(), found, strict=True):
        template = template[: template.index(EOS)]
        choices = [(4, 5, 6) if word == BLANK else (word,) for word in template]
        best = sorted(((nats(made, code, (*t, EOS)), t) for t in itertools.product(*choices)), reverse=True)
        assert [tuple(text.ids) for text in texts] == [text for _, text in best]
        assert [text.log_prob for text in texts] == pytest.approx([score for score, _ in best], abs=1e-5)
        assert all(text.ended for text in texts)


def test_a_narrow_beam_never_changes_a_known_word():
    made, z = decoder(6), torch.randn(30, 2)
    generator = torch.Generator().manual_seed(0)
    given = torch.randint(4, WORDS, (30, 9), generator=generator)
    blank = torch.rand(30, 9, generator=generator) < 0.4
    templates = torch.cat([given.masked_fill(blank, BLANK), torch.full((30, 1), EOS)], dim=1)
    for row, texts in enumerate(beam(made, z, 30, Search(2, 3), templates)):
        assert texts and all(len(text.ids) == 9 for text in texts)
        for text in texts:
            ids = torch.tensor(text.ids)
            assert torch.equal(ids[~blank[row]], given[row][~blank[row]])
            assert not {PAD, UNK, BOS, EOS} & set(ids[blank[row]].tolist())


def test_a_language_model_has_one_search_for_all_rows():
    made = decoder(3, latent=0)
    first, second = beam(made, None, 2, Search(3, 5))
    assert first == second and first[0].log_prob >= first[1].log_prob
    assert math.isfinite(first[0].log_prob)
