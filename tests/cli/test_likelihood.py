import json
import math
import re

import numpy as np
import pytest

import textvae

from .conftest import call, refused

TEXTS = ["the food was very good .", "a phone", "this coffee is not bad ."]


def test_a_line_is_the_likelihood_of_a_sentence(run):
    done = call("log-prob", run, *TEXTS, "--iw-samples", 20, "--seed", 2)
    found = textvae.load(run).log_prob(TEXTS, 20, seed=2)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line[35:] for line in lines] == TEXTS
    for at, line in enumerate(lines):
        nll, error, bound, tokens = map(float, re.findall(r"[\d.]+", line[:35]))
        assert (nll, error, bound) == pytest.approx(
            (found.nll[at], found.nll_standard_error[at], found.bound[at]), abs=0.006
        )
        assert tokens == found.tokens[at]
    mean, error = found.nll.mean(), found.nll.std(ddof=1) / math.sqrt(3)
    perplexity = math.exp(found.nll.sum() / found.tokens.sum())
    assert done.stderr.splitlines()[-1] == (
        f"3 sentences, {found.tokens.sum()} tokens: NLL {mean:.2f} ± {error:.2f} nats/sentence, "
        f"bound {found.bound.mean():.2f}, perplexity {perplexity:.2f}"
    )


def test_unknown_words_are_counted(run):
    done = call("log-prob", run, "the xx was yy .", "a phone", "--iw-samples", 1)
    assert "2 sentences, 9 tokens (2 unknown): NLL " in done.stderr and " ± –" in done.stdout


def test_what_is_scored_in_pieces_is_what_evaluate_finds(run, reviews, monkeypatch):
    """The sentences of the test split, from a file, in pieces."""
    monkeypatch.setattr("textvae.cli.likelihood.ROWS", 4)
    model = textvae.load(run)
    store = model.corpus.split("test")
    with open("test.txt", "w") as file:
        file.write("\n".join(model.tokenizer.decode_batch(store.sentences())) + "\n\n")
    scores = json.loads(
        call("evaluate", run, "--iw-sentences", "all", "--iw-samples", 9, "--seed", 3, "--json").stdout
    )
    done = call("log-prob", run, "--file", "test.txt", "--iw-samples", 9, "--seed", 3, "--json")
    document = json.loads(done.stdout)
    assert {name: document[name] for name in ("unit", "iw_samples", "seed")} == {
        "unit": "nats",
        "iw_samples": 9,
        "seed": 3,
    }
    rows = document["sentences"]
    assert list(rows[0]) == ["nll", "nll_standard_error", "bound", "tokens", "unknown", "text"]
    assert len(rows) == scores["sentences"] and sum(row["tokens"] for row in rows) == scores["tokens"]
    for own, theirs in (("nll", "nll_iw"), ("bound", "bound"), ("bound", "bound_iw_sentences")):
        assert np.mean([row[own] for row in rows]) == pytest.approx(scores[theirs], rel=1e-6)


@pytest.mark.parametrize("suffix", ["tsv", "jsonl"])
def test_a_table_is_written(run, suffix):
    with open("texts.tsv", "w") as file:
        file.write("text\tn\n" + "\n".join(f"{text}\t1" for text in TEXTS) + "\n")
    out = f"scored.{suffix}"
    done = call("log-prob", run, "--file", "texts.tsv", "--column", "text", "--iw-samples", 1, "--out", out)
    assert done.stdout == f"{out}: 3 sentences\n"
    with open(out) as file:
        lines = file.read().splitlines()
    if suffix == "tsv":
        head, *lines = lines
        assert head.split("\t") == ["nll", "nll_standard_error", "bound", "tokens", "unknown", "text"]
        rows = [dict(zip(head.split("\t"), line.split("\t"), strict=True)) for line in lines]
    else:
        rows = list(map(json.loads, lines))
    assert [row["text"] for row in rows] == TEXTS and {row["nll_standard_error"] for row in rows} <= {"", None}
    found = textvae.load(run).log_prob(TEXTS, 1)
    assert [float(row["nll"]) for row in rows] == pytest.approx(found.nll)


def test_a_language_model_is_exact_and_a_prior_is_named(language_model, run):
    document = json.loads(call("log-prob", language_model, *TEXTS, "--json").stdout)
    assert document["iw_samples"] == 0 and "prior" not in document
    assert [row["nll"] for row in document["sentences"]] == pytest.approx(textvae.load(language_model).nll(TEXTS))
    assert refused(call("log-prob", run, *TEXTS, "--prior", "fitted"), "fit-prior")


def test_what_cannot_be_scored_is_refused(run):
    assert refused(call("log-prob", run), "no text given")
    assert refused(call("log-prob", run, "we", "--out", "scored.csv"), "scored.csv: give a name in .tsv or .jsonl")
    assert refused(call("log-prob", run, "we", "--out", "x.tsv", "--json"), "--json prints a document; leave out")
    assert refused(call("log-prob", run, "we", "--iw-samples", 0), "--iw-samples")
