import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from textvae.parts.noise import mixed, sentence_noise, step_noise

seeds = st.integers(0, 2**63 - 1)


@given(seeds, st.integers(0, 10**9), st.integers(1, 40), st.integers(1, 5), st.integers(1, 3), st.integers(1, 20))
def test_the_rows_of_several_processes_are_those_of_one(seed, step, total, world, samples, size):
    whole = step_noise(seed, step, total, slice(0, total))(samples, size)
    assert whole.shape == (samples, total, size)
    edges = [total * rank // world for rank in range(world + 1)]
    parts = [
        step_noise(seed, step, total, slice(start, end))(samples, size)
        for start, end in zip(edges, edges[1:], strict=False)
    ]
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_steps_and_seeds_have_noise_of_their_own():
    drawn = [step_noise(seed, step, 3, slice(0, 3))(1, 4) for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(noise.flatten().tolist()) for noise in drawn}) == 4
    assert torch.equal(drawn[0], step_noise(0, 0, 3, slice(0, 3))(1, 4))


@given(seeds, st.lists(st.integers(0, 10**7), min_size=1, max_size=12, unique=True), st.randoms())
def test_a_sentences_noise_does_not_depend_on_its_company(seed, numbers, random):
    whole = sentence_noise(seed, torch.tensor(numbers))(2, 5)
    assert whole.shape == (2, len(numbers), 5)
    shuffled = random.sample(numbers, len(numbers))
    again = sentence_noise(seed, torch.tensor(shuffled))(2, 5)
    for number in numbers:
        alone = sentence_noise(seed, torch.tensor([number]))(2, 5)[:, 0]
        assert torch.equal(alone, whole[:, numbers.index(number)])
        assert torch.equal(alone, again[:, shuffled.index(number)])


def test_noise_is_standard_normal():
    steps = torch.cat([step_noise(7, step, 50, slice(0, 50))(1, 20).flatten() for step in range(100)])
    sentences = sentence_noise(7, torch.arange(5000))(1, 20)
    for noise in (steps, sentences.flatten(), sentences[0, :, 0], sentences[0, :, 19]):
        error = len(noise) ** -0.5
        assert abs(float(noise.mean())) < 4 * error and abs(float(noise.var()) - 1) < 6 * error
    neighbours = (sentences[0, 1:] * sentences[0, :-1]).mean()
    assert abs(float(neighbours)) < 4 * sentences.numel() ** -0.5  # consecutive numbers, unrelated noise


def test_the_samples_of_a_sentence_differ():
    noise = sentence_noise(0, torch.arange(3))
    assert len({tuple(row.tolist()) for row in noise(4, 6).flatten(0, 1)}) == 12


def test_torchs_global_generator_is_left_alone():
    before = torch.get_rng_state()
    step_noise(0, 0, 4, slice(0, 4))(1, 3)
    sentence_noise(0, torch.arange(4))(1, 3)
    assert torch.equal(torch.get_rng_state(), before)


@given(st.lists(st.integers(-(2**63), 2**63), max_size=4), st.lists(st.integers(-(2**63), 2**63), max_size=4))
def test_mixed_seeds_are_distinct_and_fit(a, b):
    assert 0 <= mixed(*a) < 2**63 and (mixed(*a) == mixed(*b)) == (a == b)


@pytest.mark.parametrize("numbers", [(0,), (0, 0), (1, 0), (2**63 - 1, 10**9)])
def test_mixed_seeds_are_taken_by_torch(numbers):
    seed = mixed(*numbers)
    assert torch.Generator().manual_seed(seed).initial_seed() == seed
