"""An objective is a sum and a model is a product: every pair of parts trains, evaluates, generates and reloads.

The cells are an all-pairs array, found greedily, and some drawn by a seed that is in the test's name: set
TEXTVAE_PRODUCT_SEED for others.
"""

import itertools
import math
import os
import random

import numpy as np
import pytest

from textvae.errors import RequestError
from textvae.evaluation.evaluate import evaluate
from textvae.generate.decoding import Decoding
from textvae.generate.trained import load
from textvae.objective.combinations import combination_problems
from textvae.objective.presets import load_settings
from textvae.objective.terms import TERMS
from textvae.parts.conditioners import CONDITIONERS
from textvae.parts.decoders import DECODERS
from textvae.parts.encoders import ENCODERS
from textvae.parts.posteriors import POSTERIORS
from textvae.parts.priors import PRIORS
from textvae.training.loop import train

SEED = int(os.environ.get("TEXTVAE_PRODUCT_SEED", "0"))
RANDOM = 8  # cells beside the array's
SENTENCES = [
    "the cat sat down",
    "a dog ran",
    "birds sing songs here",
    "no one came",
    "we saw it",
    "they left early",
]

FACTORS = {
    "encoder": {
        "lstm": {"name": "lstm", "hidden": 6, "norm": "layer", "bidirectional": True},
        "gru": {"name": "gru", "hidden": 6, "layers": 2},
        "convolutional": {"name": "convolutional", "maps": [4, 5]},
        "transformer": {"name": "transformer", "hidden": 8, "layers": 1, "heads": 2},
    },
    "decoder": {
        "lstm": {"name": "lstm", "hidden": 7, "layers": 2},
        "gru": {"name": "gru", "hidden": 7, "word_keep": 0.5},
        "inputless": {"name": "lstm", "hidden": 7, "word_keep": 0.0},
        "norm-lstm": {"name": "lstm", "hidden": 7, "norm": "layer-per-gate"},
        "gated-convolutional": {
            "name": "gated-convolutional",
            "hidden": 6,
            "bottleneck": 4,
            "width": 3,
            "blocks": 1,
        },
        "bytenet": {"name": "bytenet", "hidden": 6, "layers": 2},
        "transformer": {"name": "transformer", "hidden": 8, "layers": 1, "heads": 2},
        "hybrid": {"name": "hybrid", "maps": [5, 4], "top": {"name": "lstm", "hidden": 6}},
        "hybrid-gru": {"name": "hybrid", "maps": [5], "top": {"name": "gru", "hidden": 6, "word_keep": 0.0}},
        "hybrid-bytenet": {
            "name": "hybrid",
            "maps": [5],
            "top": {"name": "bytenet", "hidden": 6, "layers": 1, "norm": "batch"},
        },
        "feed-forward": {"name": "hybrid", "maps": [5, 4], "top": {"name": "feed-forward"}},
    },
    "posterior": {
        "gaussian": {"posterior": {"name": "gaussian"}},
        "batch-norm": {"posterior": {"name": "batch-norm"}},
        "delta": {"posterior": {"name": "delta"}},
        "mixture": {"posterior": {"name": "gaussian-mixture", "components": 2}},
        "semi-implicit": {"posterior": {"name": "semi-implicit", "samples": 2, "components": 3, "hidden": 8}},
        "iaf": {"posterior": {"name": "iaf", "flows": 1, "hidden": 8, "context": 4}},
        "planar": {"posterior": {"name": "planar", "flows": 2}},
        "radial": {"posterior": {"name": "radial", "flows": 2}},
        "multi-step": {"posterior": {"name": "multi-step", "steps": 2, "hidden": 5}},
        "vmf": {"posterior": {"name": "vmf"}, "prior": {"name": "uniform-sphere"}},
        "point": {"posterior": {"name": "point"}},
        "refined": {"inference": {"name": "refined", "steps": 2}},
        "vamp": {"prior": {"name": "vamp", "components": 3, "length": 3}},
        "mixture-prior": {"prior": {"name": "gaussian-mixture", "components": 3}},
        "conditional": {"prior": {"name": "conditional-gaussian", "hidden": 4}},
        "conditional-semi-implicit": {
            "prior": {"name": "conditional-gaussian", "hidden": 0},
            "posterior": {"name": "semi-implicit", "samples": 2, "components": 3, "hidden": 8},
        },
    },
    "condition": {
        "none": {},
        "labels": {"conditioner": {"name": "labels", "embedding": 3}},
        "inferred": {"conditioner": {"name": "labels", "embedding": 3, "infer": True}},
        "text": {"conditioner": {"name": "text"}},
        "dialogue": {"conditioner": {"name": "dialogue", "hidden": 4}},
    },
    "objective": {
        "kl": {"kl": {"weight": {"schedule": "linear", "steps": 0.5, "unit": "run"}}},
        "free-bits": {"free-bits": {"target": 1.0}},
        "free-bits-total": {"free-bits-total": {"target": 4.0}},
        "capacity": {"capacity": {"target": 4.0}},
        "capacity-max": {"capacity-max": {"target": 4.0}},
        "mmd": {"mmd": {}},
        "lagrangian": {"lagrangian": {"target": 4.0}},
        "selected-kl": {"selected-kl": {"looks": 2}, "bow": {}},
        "multi-rate": {"multi-rate": {}},
        "autoencoder": {"autoencoder": {}},
        "mu-forcing": {"kl": {}, "mu-forcing": {"margin": 2.0}},
        "bow": {"kl": {}, "bow": {}},
        "auxiliary": {"kl": {}, "auxiliary": {"weight": 0.2}},
        "inferred-labels": {"kl": {}, "inferred-labels": {}},
    },
    "decoding": {
        "greedy": Decoding(),
        "sample": Decoding("sample", temperature=0.7),
        "top-k": Decoding("top-k", top_k=3),
        "nucleus": Decoding("nucleus", top_p=0.8),
        "beam": Decoding("beam", beam=3, normalisation=0.7),
    },
    "text": {
        "words": {},
        "right-to-left": {"right_to_left": True},
        "cut": {"max_length": 3, "too_long": "cut"},
        "characters": {"tokenizer": {"name": "character"}, "max_length": 20},
        "windows": {"tokenizer": {"name": "character"}, "max_length": 100, "window": 12},
    },
    "around": {
        "nothing": {},
        "highway": {"feedforward": {"layers": 1}},
        "multi-rate": {"multi_rate": {"knots": 3}},
        "tied": {"tied": True, "shared_embedding": True},  # at embeddings of the decoder's size
    },
    "training": {
        "joint": {},
        "aggressive": {"update": {"name": "aggressive", "inner": 1}},
        "bf16": {"precision": "bf16"},
    },
}
NAMES = tuple(FACTORS)
Cell = tuple[str, ...]


# What names each condition in `[data]`.
NAMED = {
    "none": {},
    "labels": {"condition_on": ["kind"]},
    "inferred": {"condition_on": ["kind"]},
    "text": {"source": "from"},
    "dialogue": {"dialogue": {"dialogue": "number", "speaker": "who"}},
}
# Tables of these factors' choices, and the registry whose every kind they must have.
TABLES = {
    "encoder": ([{"encoder": table} for table in FACTORS["encoder"].values()], ENCODERS),
    "decoder": ([{"decoder": table} for table in FACTORS["decoder"].values()], DECODERS),
    "posterior": (list(FACTORS["posterior"].values()), POSTERIORS),
    "conditioner": ([{"conditioner": {"name": "none"}}, *FACTORS["condition"].values()], CONDITIONERS),
    "prior": ([{"prior": {"name": "standard-normal"}}, *FACTORS["posterior"].values()], PRIORS),
}


@pytest.mark.parametrize("part", TABLES)
def test_every_kind_of_a_part_is_a_factor(part):
    tables, registry = TABLES[part]
    missing = set(registry.own) - {table[part]["name"] for table in tables if part in table}
    assert not missing, f"add them to FACTORS: {missing}"


def test_every_term_is_a_factor():
    missing = set(TERMS.own) - {name for terms in FACTORS["objective"].values() for name in terms}
    assert not missing, f"add them to FACTORS['objective']: {missing}"


def settings_of(cell: Cell, **data):
    chosen = dict(zip(NAMES, cell, strict=True))
    parts = FACTORS["posterior"][chosen["posterior"]]
    model = {
        "latent": 3,
        "embedding": 5,
        "encoder": FACTORS["encoder"][chosen["encoder"]],
        "decoder": FACTORS["decoder"][chosen["decoder"]],
        **parts,
        **FACTORS["condition"][chosen["condition"]],
        **FACTORS["around"][chosen["around"]],
    }
    data |= NAMED[chosen["condition"]]
    if chosen["around"] == "tied":
        model["embedding"] = {**model["decoder"], **model["decoder"].get("top", {})}.get("hidden", 5)
    train_table = {"batch_size": 3, "max_steps": 2, **FACTORS["training"][chosen["training"]]}
    return load_settings(
        data={"max_length": 6, **FACTORS["text"][chosen["text"]], **data},
        model=model,
        objective=FACTORS["objective"][chosen["objective"]],
        train=train_table,
    )


def fits(cell: Cell) -> bool:
    try:
        return not combination_problems(settings_of(cell))
    except RequestError:
        return False


def pairs(cell: Cell) -> set[tuple[tuple[int, str], tuple[int, str]]]:
    return set(itertools.combinations(enumerate(cell), 2))


def possible(draw: random.Random, wanted: tuple[tuple[int, str], ...], attempts: int = 60) -> Cell | None:
    """A cell that fits and holds what is wanted, or None if none was found."""
    for _ in range(attempts):
        cell = [draw.choice(list(FACTORS[name])) for name in NAMES]
        for place, choice in wanted:
            cell[place] = choice
        if fits(tuple(cell)):
            return tuple(cell)
    return None


def array(draw: random.Random) -> list[Cell]:
    """Cells in which every pair of choices that can be together is at least once."""
    every = [
        ((i, a), (j, b))
        for i, j in itertools.combinations(range(len(NAMES)), 2)
        for a in FACTORS[NAMES[i]]
        for b in FACTORS[NAMES[j]]
    ]
    draw.shuffle(every)
    found: list[Cell] = []
    left = dict.fromkeys(every)
    for pair in every:
        if pair not in left:
            continue
        candidates = [cell for _ in range(12) if (cell := possible(draw, pair)) is not None]
        left.pop(pair)
        if candidates:
            best = max(candidates, key=lambda cell: len(pairs(cell) & left.keys()))
            found.append(best)
            for covered in pairs(best):
                left.pop(covered, None)
    return found


DRAW = random.Random(SEED)
CELLS = array(DRAW)
DRAWN = [cell for _ in range(RANDOM) if (cell := possible(DRAW, ())) is not None]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for split, texts in (("train", SENTENCES * 2), ("valid", SENTENCES[:4])):
        rows = [
            f"{text}\t{'xy'[number % 2]}\t{text[:9]}\t{number // 4}\t{'AB'[number % 2]}"
            for number, text in enumerate(texts)
        ]
        (folder / f"{split}.tsv").write_text("\n".join(["text\tkind\tfrom\tnumber\twho", *rows]) + "\n")
    return {"train": str(folder / "train.tsv"), "valid": str(folder / "valid.tsv"), "column": "text"}


def test_the_array_holds_every_pair_that_can_be():
    covered = set().union(*(pairs(cell) for cell in CELLS))
    draw = random.Random(1)
    for i, j in itertools.combinations(range(len(NAMES)), 2):
        for a, b in itertools.product(FACTORS[NAMES[i]], FACTORS[NAMES[j]]):
            pair = ((i, a), (j, b))
            assert pair in covered or possible(draw, pair) is None, pair


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", [*CELLS, *DRAWN], ids=lambda cell: "+".join(cell) + f"@{SEED}")
def test_a_cell_of_the_product(cell, text, tmp_path):
    chosen = dict(zip(NAMES, cell, strict=True))
    settings, decoding = settings_of(cell, **text), FACTORS["decoding"][chosen["decoding"]]
    run = train(settings, tmp_path / "run")
    found = evaluate(run.folder, "valid", iw_samples=4, iw_sentences=2)
    assert found["reconstruction"] > 0 and math.isfinite(found["reconstruction"])
    assert (found["bound"] is None) == (found["kl"] is None) == (chosen["posterior"] == "point")
    if found["bound"] is not None:
        assert found["bound"] == pytest.approx(found["reconstruction"] + found["kl"])
        assert math.isfinite(found["nll_iw"])
        if settings.data.tokenizer.name == "character":
            bits = found["bound"] * found["sentences"] / found["tokens"] / math.log(2)
            assert found["bits_per_character"] == pytest.approx(bits)
    store = load(run.folder).corpus.split("valid")
    condition = {"kind": "y"} if store.conditions is not None else store.condition(np.array([0]))
    model, again = (load(run.folder, condition=condition) for _ in range(2))
    codes = model.encode(SENTENCES)
    assert codes.shape == (6, 3) and np.isfinite(codes).all()
    # Means that hardly differ are spread to a deviation of gamma, and with them the last bits of float32.
    within = 1e-4 if chosen["posterior"] == "batch-norm" else 1e-5
    for other in (model.encode(SENTENCES[2:3]), again.encode(SENTENCES)[2:3]):  # alone as among others
        np.testing.assert_allclose(other, codes[2:3], atol=within)
    samples = model.sample(5, seed=1, decoding=decoding)
    assert samples == again.sample(5, seed=1, decoding=decoding)
    assert samples[:2] == model.sample(2, seed=1, decoding=decoding)
    by_character = settings.data.tokenizer.name == "character"
    lengths = [len(s.replace("<unk>", "?") if by_character else s.split()) for s in samples]
    assert set(lengths) == {12} if chosen["text"] == "windows" else max(lengths) <= settings.data.max_length
    path = model.interpolate(SENTENCES[0], SENTENCES[1], steps=3, decoding=decoding)
    assert len(path) == 3 and path == again.interpolate(SENTENCES[0], SENTENCES[1], steps=3, decoding=decoding)
