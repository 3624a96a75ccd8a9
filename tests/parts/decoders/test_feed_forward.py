import torch

from textvae.parts.decoders.feed_forward import FeedForwardDecoder
from textvae.text.tokenizers import BOS


def test_each_word_is_told_from_its_position_alone():
    torch.manual_seed(0)
    decoder = FeedForwardDecoder(7, 3).double()
    ids, features = torch.randint(0, 7, (2, 4)), torch.randn(2, 2, 5, 3).double()
    found = decoder.log_prob(ids, features)
    for sample in range(2):
        for row in range(2):
            for time in range(4):
                logits = decoder.words.weight @ features[sample, row, time] + decoder.words.bias
                expected = logits[ids[row, time]] - logits.exp().sum().log()
                torch.testing.assert_close(found[sample, row, time], expected)


def test_stepping_gives_what_scoring_gives_whatever_the_words():
    decoder = FeedForwardDecoder(7, 3).double()
    ids, features = torch.randint(0, 7, (3, 4)), torch.randn(3, 5, 3).double()
    whole = decoder.log_prob(ids, features[None])[0]
    state, token = decoder.start(features), torch.full((3,), BOS)
    for time in range(4):
        logits, state = decoder.step(token, state)
        if time == 1:
            rows = torch.tensor([2, 1])
            state, logits, ids, whole = decoder.select(state, rows), logits[rows], ids[rows], whole[rows]
        torch.testing.assert_close(logits.log_softmax(1).gather(1, ids[:, time, None])[:, 0], whole[:, time])
        token = torch.randint(0, 7, (len(ids),))
