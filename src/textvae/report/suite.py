"""The report's section of all evaluations: what is written, reconstructed, known of labels, and how true it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from textvae.report.pieces import absent, number, text
from textvae.run.records import is_number

# Parts of the document of `evaluate --all`, by name.
PARTS = ("generated", "true_distance", "reconstruction_by_length", "probes")
Found = Mapping[str, Any]


def has_suite(evaluation: Found) -> bool:
    """Return True if an evaluation has any of the parts."""
    return any(evaluation.get(name) for name in PARTS)


def suite(evaluation: Found) -> str:
    """Return the tables of one run; in place of each that there is not, the reason."""
    draw = (_generated, _true, _reconstructed, _probed)
    titles = ("Written from the prior", "Distance to the truth", "Reconstructions by length", "What codes tell")
    reasons = evaluation.get("reasons") or {}
    found = []
    for name, title, drawn in zip(PARTS, titles, draw, strict=True):
        part = evaluation.get(name)
        content = drawn(part) if part else absent(text(reasons.get(name) or "Not measured."))
        found.append(f"<h3>{title}</h3>{content}")
    return "\n".join(found)


def _generated(part: Found) -> str:
    """Return a row a metric, a column a way of decoding."""
    columns = {name: one for name, one in part.items() if one.get("scores")}
    left_out = [f"{text(name)}: {text(one.get('reason'))}." for name, one in part.items() if not one.get("scores")]
    metrics = list(dict.fromkeys(metric for one in columns.values() for metric in one["scores"]))
    head = ["score", *(f"{text(name)}<small>{one['samples']:,} sentences</small>" for name, one in columns.items())]
    rows = [[text(metric), *(_score(one["scores"].get(metric)) for one in columns.values())] for metric in metrics]
    table = _table(head, rows) if columns else ""
    return table + _note(
        "Shares from 0 to 1, but for the vocabulary and the length, in tokens. bleu is against the split: high is "
        "good; self-bleu against the other sentences: high is bad. copied and overlap look in the training text. "
        + " ".join(left_out)
    )


def _true(part: Found) -> str:
    """Return a column for each decoding: share in the language, surprisal, and attributes."""
    columns = {name: one for name, one in part.items() if one}
    rows = [
        ["of the language", *(_with_error(one, "inside") for one in columns.values())],
        ["surprisal of those", *(_with_error(one, "surprisal") for one in columns.values())],
        ["entropy", *(_number(one.get("entropy")) for one in columns.values())],
        [
            "reverse KL of those",
            *(_with_error(one, "reverse_kl_inside") for one in columns.values()),
        ],
    ]
    names = dict.fromkeys(name for one in columns.values() for name in one.get("attributes") or {})
    for name in names:
        rows.append([text(name), *(_ways((one.get("attributes") or {}).get(name)) for one in columns.values())])
    rows.append(["jointly", *(_ways(one.get("joint"), one.get("joint_of")) for one in columns.values())])
    return _table(["", *map(text, columns)], rows) + _note(
        "Nats per sentence. Attributes: KL of the sentences' frequencies from the true ones, and the other way "
        "round; below, what sentences of the grammar itself would have."
    )


def _reconstructed(part: Found) -> str:
    """Return a row a bucket of lengths, a column a metric."""
    metrics = list(next(iter(part.values())))
    rows = [
        [text(bucket), *map(_score, scores.values()), _number(next(iter(scores.values()))["sentences"])]
        for bucket, scores in part.items()
    ]
    return _table(["tokens", *map(text, metrics), "sentences"], rows) + _note(
        "Greedy, from posterior means, against the sentence itself: 1 is the sentence word for word."
    )


def _probed(part: Found) -> str:
    """Return a row a label and number of labels to learn from."""
    rows = []
    for label, one in part.items():
        for sizes in one["sizes"]:
            code, bag = sizes["code"], sizes["bag_of_words"]
            rows.append([text(label), _number(code["labels"]), *map(_accuracy, (code, bag, one["majority"]))])
    return _table(["label", "labels", "code", "bag of words", "commonest label"], rows) + _note(
        "Accuracy on held-out sentences of logistic regression, from posterior means and from a bag of words. "
        "± is the deviation over draws of fewer labels, else the standard error."
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _note(words: str) -> str:
    return f'<p class="note">{words.strip()}</p>'


def _number(value: Any) -> str:
    return number(value, 4 if isinstance(value, float) else 0) or "–"


def _score(found: Found | None) -> str:
    """Return a score with its deviation; a dash, and the reason, where it is undefined."""
    if not found or not is_number(found.get("value")):
        return "–" + (f"<small>{text(found['reason'])}</small>" if found and found.get("reason") else "")
    deviation = found.get("standard_deviation")
    return _number(found["value"]) + (f" ± {_number(deviation)}" if is_number(deviation) else "")


def _with_error(found: Found, name: str) -> str:
    value, error = found.get(name), found.get(f"{name}_standard_error")
    return _number(value) + (f" ± {_number(error)}" if is_number(value) and is_number(error) else "")


def _ways(found: Found | None, names: Sequence[str] | None = None) -> str:
    """Both divergences, and what true sentences have."""
    if not found:
        return "–"
    more = f" of {text(', '.join(names))}" if names else ""
    reverse, forward, expected = (number(found[one], 3) for one in ("reverse", "forward", "of_true_sentences"))
    return f"{reverse} / {forward}<small>{expected}{more}</small>"


def _accuracy(found: Found) -> str:
    spread = found["standard_deviation"] if found["draws"] > 1 else found["standard_error"]
    return f"{_number(found['accuracy'])} ± {_number(spread)}"
