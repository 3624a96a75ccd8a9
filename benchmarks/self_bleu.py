"""Self-BLEU-4 against all other sentences, as ratios: to NLTK's brute force, and of ten times the text to the text.

    python benchmarks/self_bleu.py [--single 5] [--json FILE]

Sentences of 12 words, the words drawn by Zipf's law out of 10,000. NLTK walks through all references of a sentence,
so it is measured on `--single` sentences and scaled. Seconds are printed beside the ratios: the mark is 1 second
for 10,000 sentences and 15 for 100,000, on one core, tokenizing included.
"""

import argparse
import time
import tracemalloc
import warnings
from statistics import median

import numpy as np
import torch
from nltk.translate.bleu_score import sentence_bleu as nltk_sentence_bleu

from measuring import machine, write_json
from textvae.metrics.bleu import self_matches, sentence_bleu
from textvae.metrics.words import tokenized

SENTENCES, LENGTH, WORDS = (10_000, 100_000), 12, 10_000


def text(sentences: int) -> list[str]:
    chances = 1 / np.arange(1, WORDS + 1)
    drawn = np.random.default_rng(0).choice(WORDS, (sentences, LENGTH), p=chances / chances.sum())
    return [" ".join(map(str, row)) for row in drawn]


def ours(texts: list[str]) -> np.ndarray:
    return sentence_bleu(self_matches(tokenized(texts), 4), 4)


def brute(texts: list[str], rows: int) -> np.ndarray:
    """Self-BLEU-4 of the first sentences."""
    sentences = list(tokenized(texts))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [nltk_sentence_bleu(sentences[:i] + sentences[i + 1 :], sentences[i]) for i in range(rows)]
    return np.array(found)


def seconds(call, *arguments) -> float:
    began = time.process_time()
    call(*arguments)
    return time.process_time() - began


def peak(texts: list[str]) -> int:
    """Bytes held at once, beside the text itself."""
    tracemalloc.start()
    ours(texts)
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--single", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    small, large = map(text, SENTENCES)
    spent = [median(seconds(ours, texts) for _ in range(arguments.repeats)) for texts in (small, large)]
    theirs = seconds(brute, small, arguments.single) * len(small) / arguments.single
    difference = np.abs(ours(small)[: arguments.single] - brute(small, arguments.single)).max()
    memory = [peak(texts) for texts in (small, large)]
    results = {
        "seconds": dict(zip(SENTENCES, spent, strict=True)),
        "brute_force": theirs / spent[0],
        "time_of_ten_times_the_text": spent[1] / spent[0],
        "memory_of_ten_times_the_text": memory[1] / memory[0],
        "difference": float(difference),
    }
    print(
        f"10,000 sentences, NLTK one by one : ours: {results['brute_force']:,.0f}x, differing by {difference:.0e}"
    )
    print(
        f"100,000 sentences : 10,000: {spent[1] / spent[0]:.1f}x the time, {memory[1] / memory[0]:.1f}x the memory"
    )
    print(f"seconds on one core: {spent[0]:.2f} for 10,000 (mark: 1), {spent[1]:.2f} for 100,000 (mark: 15)")
    if arguments.json:
        write_json(arguments.json, {**machine(), **results})


if __name__ == "__main__":
    main()
