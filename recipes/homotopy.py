"""Ways through the space of codes, by eight models: paths, posterior and tail samples, capacities, sensitivity.

    TEXTVAE_DATA=CORPORA python recipes/homotopy.py --scale gpu --processes 8

Claims B8, B9 and B10 of Bowman et al. 2016 (Tables 1, 6, 7, 8, 10) and P7 of Prokhorov et al. 2019 (Table 2 and the
gradient's direction of its footnote 7). Scales, models and decodings are in `homotopy.toml`. Runs go to
`runs/homotopy/SCALE`, finished ones are used again, unfinished ones are gone on with. Numbers go to
`results/homotopy/SCALE.json`, a page of tables and paths to `results/homotopy/SCALE.md`. Sentences of the corpus
are measured on and not written down: printed paths lie between draws of the prior, or sentences of `homotopy.toml`.

NLL is -log p(text) by a language model of the same size and data, end mark counted. Where texts differ in length,
nats per token tell more than nats per sentence. Standard errors are over paths, sentences or samples.
"""

import argparse
import math
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from homotopy_page import AUTOENCODER, SAMPLES
from running import Job, done

if TYPE_CHECKING:
    from textvae.generate.paths import Homotopy
    from textvae.generate.trained import Trained

HERE = Path(__file__).parent
LANGUAGE_MODEL = "language-model"
STEPS, MAPS = 9, 10
LENGTHS = ((1, 5), (6, 8), (9, 11), (12, 15), (16, 30))


def main() -> int:
    """Train what is missing, measure, write; 1 if a run failed."""
    plan = tomllib.loads((HERE / "homotopy.toml").read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("smoke", "grammar", "cpu", "gpu"), required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/homotopy"))
    parser.add_argument("--out", type=Path, default=Path("results/homotopy"))
    asked = parser.parse_args()
    scale, folder = plan[asked.scale], asked.runs / asked.scale
    began = time.monotonic()
    failed = done(jobs(plan, scale, folder, asked.seed), asked.processes)
    if failed:
        return 1
    trained_after = time.monotonic() - began

    from homotopy_page import examples, markdown

    import textvae
    from textvae.files import read_json, write_json, write_text
    from textvae.run.hardware import machine

    models = {name: textvae.load(folder / f"{name}-{asked.seed}") for name in plan["models"]}
    numbers = {
        "scale": asked.scale,
        "corpus": scale["settings"]["data"]["corpus"],
        "seed": asked.seed,
        "plan": {**scale, "models": plan["models"]},
        "machine": machine(),
        "runs": {name: scores(read_json(one.run.folder / "evaluation/test.json")) for name, one in models.items()},
        **measured(plan, scale, models, asked.seed),
    }
    numbers["seconds"] = {"training": trained_after, "all": time.monotonic() - began}
    asked.out.mkdir(parents=True, exist_ok=True)
    write_json(asked.out / f"{asked.scale}.json", numbers)
    page = markdown(numbers, examples(plan, models, numbers["corpus"], asked.seed))
    write_text(asked.out / f"{asked.scale}.md", page)
    print(page)
    return 0


def jobs(plan: Mapping[str, Any], scale: Mapping[str, Any], folder: Path, seed: int) -> list[Job]:
    """The runs, one of each model."""
    ramp = f"objective.capacity.ramp_epochs={scale['ramp_epochs']}"
    return [
        Job(
            folder / f"{name}-{seed}",
            model["method"],
            (*model.get("set", ()), *([ramp] if model["method"] == "capacity" else ()), f"train.seed={seed}"),
            scale["settings"],
            "test",
            scale["iw_samples"],
            scale["iw_sentences"],
        )
        for name, model in plan["models"].items()
    ]


def measured(
    plan: Mapping[str, Any], scale: Mapping[str, Any], models: "Mapping[str, Trained]", seed: int
) -> dict[str, Any]:
    """The numbers of all claims, by claim and model."""
    scorer = models[LANGUAGE_MODEL]
    coded = {name: model for name, model in models.items() if name != LANGUAGE_MODEL}
    given = held_out(scorer, max(scale["sentences"], 2 * scale["pairs"]), seed)
    vaes = {name: model for name, model in coded.items() if name != AUTOENCODER}
    capacities = {name: model for name, model in coded.items() if name.startswith("capacity-")}
    return {
        "text": of_text(scorer, given, seed),
        "B8": {
            "between sentences": {
                name: paths_between_sentences(model, scorer, given[: 2 * scale["pairs"]])
                for name, model in coded.items()
            },
            "between prior draws": {
                name: paths_between_draws(model, scorer, scale["pairs"], seed) for name, model in vaes.items()
            },
        },
        "B9": {name: posterior_samples(model, given[: scale["sentences"]], seed) for name, model in coded.items()},
        "B10": {name: tail_samples(model, scorer, scale["samples"], seed) for name, model in vaes.items()},
        "P7": same_codes(plan, capacities, scorer, scale["pairs"], seed),
        "sensitivity": {
            name: moved(model, given[: scale["sensitivity"]], scale["directions"], seed)
            for name, model in coded.items()
        },
    }


def held_out(model: "Trained", n: int, seed: int) -> list[str]:
    """Different test sentences, drawn by the seed, as the vocabulary has them."""
    from textvae.text.corpus import open_corpus

    store = open_corpus(model.run.settings.data).split("test")
    order = np.random.default_rng(seed).permutation(len(store))
    texts = model.tokenizer.decode_batch(store.sentences(order[: 2 * n]))
    return list(dict.fromkeys(texts))[:n]


def of_text(scorer: "Trained", texts: Sequence[str], seed: int) -> dict[str, Any]:
    """What NLLs are to be compared with: sentences of the test split, and the same with their words shuffled."""
    order = np.random.default_rng(seed)
    shuffled = [" ".join(order.permutation(text.split())) for text in texts]
    return {"test sentences": likelihood(scorer, texts), "their words shuffled": likelihood(scorer, shuffled)}


def likelihood(scorer: "Trained", texts: Sequence[str], groups: np.ndarray | None = None) -> dict[str, Any]:
    """NLL by the language model, per sentence and per token, and the share that is grammatical if that is known.

    `groups` numbers texts that depend on each other, for the standard errors.
    """
    nll = scorer.nll(texts)
    right = grammatical(scorer, texts)
    return {
        "nats_per_sentence": summary(nll, groups),
        "nats_per_token": summary(nll / tokens(texts), groups),
        "grammatical": None if right is None else summary(right, groups),
    }


def grammatical(scorer: "Trained", texts: Sequence[str]) -> np.ndarray | None:
    """1 for each text that the grammar can write, 0 for others; None but on the corpus `grammar`."""
    from textvae.text.grammar import reviews

    if scorer.run.settings.data.corpus != "grammar":
        return None
    known = {text: float(reviews().attributes(text) is not None) for text in set(texts)}
    return np.array([known[text] for text in texts])


def tokens(texts: Sequence[str]) -> np.ndarray:
    """How many tokens each text has, its end mark among them."""
    return np.array([len(text.split()) + 1.0 for text in texts])


def summary(values: Sequence[float] | np.ndarray, groups: np.ndarray | None = None) -> dict[str, Any]:
    """Mean, standard error (over independent `groups` of values, where given) and number."""
    import torch

    from textvae.metrics.likelihood import standard_error

    found = np.asarray(values, dtype=np.float64)
    error = standard_error(torch.from_numpy(found), groups)
    return {
        "mean": float(found.mean()),
        "standard_error": error if math.isfinite(error) else None,
        "n": len(found),
    }


def paths_between_sentences(model: "Trained", scorer: "Trained", texts: Sequence[str]) -> dict[str, Any]:
    """Claim B8, Table 1: straight paths between the codes of held-out sentences."""
    from textvae.generate.paths import homotopies, text_ends

    pairs = list(zip(texts[::2], texts[1::2], strict=False))
    return path_scores(homotopies(model, text_ends(model, pairs), STEPS, "linear"), scorer)


def paths_between_draws(model: "Trained", scorer: "Trained", pairs: int, seed: int) -> dict[str, Any]:
    """Claim B8, Tables 8 and 10: paths between draws of the prior."""
    from textvae.generate.paths import homotopies, prior_ends

    return path_scores(homotopies(model, prior_ends(model, pairs, seed), STEPS, "linear"), scorer)


def path_scores(found: "Sequence[Homotopy]", scorer: "Trained") -> dict[str, Any]:
    """How paths read: NLL of the texts between the ends and of the ends, their difference, and how texts change."""
    texts = [text for path in found for text in path.texts]
    nll = scorer.nll(texts).reshape(len(found), -1)
    each = nll / tokens(texts).reshape(nll.shape)
    smooth = [path.smoothness for path in found]
    numbers: dict[str, Any] = {}
    for unit, values in (("nats_per_sentence", nll), ("nats_per_token", each)):
        between, ends = values[:, 1:-1].mean(axis=1), values[:, [0, -1]].mean(axis=1)
        numbers[unit] = {"between": summary(between), "ends": summary(ends), "rise": summary(between - ends)}
    right = grammatical(scorer, texts)
    if right is not None:
        right = right.reshape(nll.shape)
        between, ends = right[:, 1:-1].mean(axis=1), right[:, [0, -1]].mean(axis=1)
        numbers["grammatical"] = {
            "between": summary(between),
            "ends": summary(ends),
            "rise": summary(between - ends),
        }
    return {
        "grammatical": None,
        **numbers,
        "steps": nll.shape[1],
        "different": summary([one.distinct for one in smooth]),
        "words_a_step": summary([one.mean_edit for one in smooth]),
        "largest_step": summary([one.largest_edit for one in smooth]),
    }


def posterior_samples(model: "Trained", texts: list[str], seed: int) -> dict[str, Any]:
    """Claim B9, Table 7: greedy texts of the posterior's mean and of three draws, against the sentence, by length.

    The floor is what the samples of another sentence of any length come to.
    """
    from textvae.generate.codec import MEASURED
    from textvae.generate.sources import posterior_draws

    mean = model.reconstruct(texts, MEASURED)
    codes = posterior_draws(model, texts, SAMPLES, seed)
    drawn = model.decode(codes.reshape(-1, model.latent), MEASURED)
    words = np.array([len(text.split()) for text in texts])
    rows = {}
    for least, most in LENGTHS:
        chosen = np.flatnonzero((least <= words) & (words <= most)).tolist()
        if len(chosen) < 2:
            continue
        given = [texts[row] for row in chosen]
        many = [text for text in given for _ in range(SAMPLES)]
        own = [drawn[row * SAMPLES + draw] for row in chosen for draw in range(SAMPLES)]
        next_ones = [(row + 1) % len(texts) for row in chosen]  # the order of the texts is random
        others = [drawn[row * SAMPLES + draw] for row in next_ones for draw in range(SAMPLES)]
        rows[f"{least}-{most}"] = {
            "sentences": len(chosen),
            "mean": fidelity([mean[row] for row in chosen], given, 1, seed),
            "samples": fidelity(own, many, SAMPLES, seed),
            "floor": fidelity(others, many, SAMPLES, seed),
        }
    return rows


def fidelity(texts: Sequence[str], references: Sequence[str], each: int, seed: int) -> dict[str, Any]:
    """BLEU with its bootstrap standard error over sentences of `each` texts, and means over sentences.

    `kept` is the share of words that need no edit, 1 - edits / words of the longer text; then how many texts are
    the sentence itself, and by how many words their lengths are wrong.
    """
    from textvae.metrics.bleu import paired_matches
    from textvae.metrics.edits import edit_distance
    from textvae.metrics.words import tokenized

    own, other = tokenized(texts), tokenized(references)
    found = paired_matches(own, other, 4)
    blocks = len(texts) // each
    drawn = np.random.default_rng(seed).integers(blocks, size=(200, blocks))

    def bleu(rows: np.ndarray) -> np.ndarray:
        """Corpus BLEU-4, from 0 to 100, of each row's blocks: what BLEU is of counts that are summed up."""
        total = np.stack([found.total(n) for n in range(1, 5)], axis=1)
        counts = (found.matched, total, found.length, found.closest)
        matched, total, length, closest = (
            one.reshape(blocks, each, *one.shape[1:]).sum(axis=1)[rows].sum(axis=1) for one in counts
        )
        with np.errstate(divide="ignore"):  # without a match of some length it is 0
            precision = np.log(matched / np.maximum(total, 1)).mean(axis=1)
        return 100 * np.exp(precision + np.minimum(0.0, 1 - closest / np.maximum(length, 1)))

    wrong = np.abs(found.length - found.closest)
    kept = np.array([1 - edit_distance(a, b) / max(len(a), len(b)) for a, b in zip(own, other, strict=True)])
    same = np.array([text == reference for text, reference in zip(texts, references, strict=True)])
    return {
        "bleu": {
            "mean": float(bleu(np.arange(blocks)[None])[0]),
            "standard_error": float(np.std(bleu(drawn))),
            "n": blocks,
        },
        "kept": summary(kept.reshape(-1, each).mean(axis=1)),
        "same": summary(same.reshape(-1, each).mean(axis=1)),
        "length_error": summary(wrong.reshape(-1, each).mean(axis=1)),
    }


def tail_samples(model: "Trained", scorer: "Trained", samples: int, seed: int) -> dict[str, Any]:
    """Claim B10, Table 6: greedy texts of prior draws, and of draws that random linear maps send to the tails."""
    from textvae.generate.codec import MEASURED
    from textvae.generate.sources import tail_draws, tail_map, volume_preserving_bound

    part = max(1, samples // MAPS)
    maps = [seed + number for number in range(MAPS)]
    tails = np.concatenate([tail_draws(model, part, one) for one in maps])
    stretch = [float(np.linalg.norm(tail_map(model.latent, one).numpy(), 2)) for one in maps]
    small = np.concatenate([tail_draws(model, part, one, 0.1) for one in maps])
    codes = {"ordinary": model.draw(len(tails), seed), "tail": tails, "c = 0.1": small}
    of_map = np.repeat(np.arange(MAPS), part)  # codes of one map depend on each other
    rows = {}
    for name, z in codes.items():
        texts, groups = model.decode(z, MEASURED), None if name == "ordinary" else of_map
        words = [word for text in texts for word in text.split()]
        rows[name] = {
            **likelihood(scorer, texts, groups),
            "different": len(set(texts)),
            "texts": len(texts),
            "vocabulary": len(set(words)),
            "unknown": words.count("<unk>") / max(1, len(words)),
            "words": summary(tokens(texts) - 1, groups),
            "squared_norm": summary((z.astype(np.float64) ** 2).sum(axis=1), groups),
        }
    return {**rows, "bound": volume_preserving_bound(model.latent), "stretch": summary(stretch)}


def same_codes(
    plan: Mapping[str, Any], models: "Mapping[str, Trained]", scorer: "Trained", pairs: int, seed: int
) -> dict[str, Any]:
    """Claim P7, Table 2: seven codes of a path between prior draws, by every capacity and decoding."""
    from textvae.generate.decoding import Decoding
    from textvae.generate.paths import same_paths

    decodings = {name: Decoding(**options, allow_unknown=True) for name, options in plan["decodings"].items()}
    cells = iter(same_paths(list(models.values()), list(decodings.values()), pairs, 7, "linear", seed))
    rows: dict[str, Any] = {}
    for model in models:
        for decoding in decodings:
            found = next(cells).homotopies
            texts = [text for path in found for text in path.texts]
            of_path = np.repeat(np.arange(len(found)), 7)
            repeats = [sum(path.repeated) for path in found]
            score = {**likelihood(scorer, texts, of_path), "repeats": summary(repeats)}
            rows.setdefault(model, {})[decoding] = score
    return rows


def moved(model: "Trained", texts: list[str], directions: int, seed: int) -> dict[str, Any]:
    """How far codes of held-out sentences must move before their texts change."""
    from textvae.evaluation.sensitivity import sensitivity

    document = sensitivity(model, texts, directions=directions, seed=seed).document()
    kept = ("distances", "curves", "half")  # not the sentences
    return {**{name: document[name] for name in kept}, "gradient": summary(document["gradients"])}


def scores(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the page needs of an evaluation."""
    names = ("reconstruction", "kl", "bound", "nll_iw", "shuffle_gap", "active_units", "mutual_information")
    latent = ("log_det_covariance", "mean_squared_norm", "signature")
    return {name: report.get(name) for name in (*names, *latent)}


if __name__ == "__main__":
    sys.exit(main())
