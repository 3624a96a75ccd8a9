import dataclasses
import math
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from scipy.stats import norm

from textvae.errors import RequestError, WorkError
from textvae.evaluation.content import Example, LabelAgreement
from textvae.evaluation.diagnose import Diagnosis
from textvae.report import figures, fonts
from textvae.report.content import RunReport
from textvae.report.page import document, write_report
from textvae.report.pieces import number, percent, text
from textvae.report.run_report import best_known, labelled
from textvae.report.table import table

LATENT, SENTENCES = 6, 100
OF_N = "|of 2,000 mixed, at most ln 2,000 = 7.60"
EVIL = "<script>alert('x')</script>"


def log(kl: float | None = 2.0) -> list[dict]:
    """Four training records and two validations; a language model's have no KL."""
    records = []
    for step in (10, 20, 30, 40):
        record = {"step": step, "epoch": step / 20, "split": "train", "reconstruction": 30 + 100 / step}
        records.append(record | ({} if kl is None else {"kl": kl * step / 40}))
        if step in (20, 40):
            records.append({**records[-1], "split": "valid", "bound": 40.0})
    return records


EVALUATION = {
    "split": "test",
    "sentences": 2000,
    "reconstruction": 21.7514185,
    "kl": 1.9007644,
    "bound": 23.6521829,
    "nll_iw": 22.5457927,
    "nll_iw_standard_error": 0.3730581,
    "nll_iw_kind": "importance-weighted",
    "iw_samples": 500,
    "iw_sentences": 300,
    "perplexity_iw": 5.8173207,
    "mutual_information": 0.8587450,
    "mutual_information_sentences": 2000,
    "mutual_information_ceiling": math.log(2000),
    "active_units": {"0.01": 4, "0.2": 3},
    "latent": LATENT,
    "kl_per_dimension": [0.9, 0.5, 0.3, 0.2, 0.0007, 0.0],
    "signature": "nll|bound:iw500|unit:nats/sentence",
}


def vae(name: str = "working", scale: float = 1.0, **changes: object) -> RunReport:
    generator = np.random.default_rng(3)
    means = (scale * generator.normal(size=(SENTENCES, LATENT))).astype(np.float32)
    run = RunReport(
        name=name,
        log=log(),
        evaluation=EVALUATION,
        means=means,
        codes=means + generator.normal(size=means.shape).astype(np.float32),
        labels=[("good", "bad")[row % 2] for row in range(SENTENCES)],
        label_name="sentiment",
        samples=["the food was great .", "the food was great .", "it broke ."],
        interpolation=["a b", "a c"],
        verdict="It works. The decoder uses the code.",
    )
    return dataclasses.replace(run, **changes)


def language_model(**changes: object) -> RunReport:
    evaluation = {**EVALUATION, "kl": None, "mutual_information": None, "active_units": None, "latent": None}
    evaluation |= {"kl_per_dimension": None, "nll_iw_kind": "exact", "iw_samples": 0}
    return (
        vae("baseline", log=log(None), evaluation=evaluation, means=None, codes=None, labels=None, interpolation=[])
        if not changes
        else dataclasses.replace(language_model(), **changes)
    )


def diagnosis(**values: object) -> Diagnosis:
    """A diagnosis with these values and two examples; all else is None or nothing."""
    none = {one.name: None if "None" in str(one.type) else one.type() for one in dataclasses.fields(Diagnosis)[:-2]}
    shown = [Example("the food was good .", "the food was bad .", "the soup was good ."), Example(EVIL, EVIL, EVIL)]
    return Diagnosis(**{**none, "examples": shown, **values})


class Page(HTMLParser):
    """The elements of a page, its text, and the cells of its table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: dict[str, list[str]] = {}
        self.exact: dict[str, list[float]] = {}
        self.row: list[str] = []
        self.values: list[float] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == [], "an element is not closed"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.row, self.values = [], []
        if tag in ("td", "th"):
            self.row.append("")
        if tag == "small" and ("td" in self.open or "th" in self.open):
            self.row[-1] += "|"
        if tag == "data":
            self.values.append(float(dict(attributes)["value"] or ""))

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "tr":
            name, *cells = self.row
            self.rows[name], self.exact[name] = cells, self.values

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)
        if "td" in self.open or "th" in self.open:
            self.row[-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def cells(self, name: str) -> list[str]:
        """The cells of the row of that score, without the column of readings."""
        (found,) = [cells for row, cells in self.rows.items() if row.split("|")[0] == name]
        return found[:-1]

    def numbers(self, name: str) -> list[float]:
        (found,) = [values for row, values in self.exact.items() if row.split("|")[0] == name]
        return found


def page(*runs: RunReport, title: str = "A comparison") -> Page:
    with figures.plain_matplotlib():
        return Page(document(title, runs))


def scores(*runs: RunReport) -> Page:
    """The table of scores alone."""
    return Page(table([run.name for run in runs], [run.evaluation for run in runs]))


def svgs(html: str) -> list[ElementTree.Element]:
    """The figures of a page, as well-formed XML."""
    found = re.findall(r'<svg class="plot".*?</svg>', html, flags=re.DOTALL)
    return [ElementTree.fromstring(f'<x xmlns:xlink="xlink">{one}</x>') for one in found]


# The whole file ---------------------------------------------------------------------------------------------------


def test_the_file_needs_nothing_else_and_runs_nothing(tmp_path):
    write_report(tmp_path / "report.html", "T", [vae(), vae("collapsed", 0.01), language_model()])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for tag, attributes in Page(html).elements:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "img", "form", "image")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value is not None and value.startswith("#")
    assert not re.search(r"@import|@font-face|url\((?!#)", html)
    assert "default-src 'none'" in html
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_ids_are_unique_and_every_reference_finds_its_own():
    with figures.plain_matplotlib():
        html = document("T", [vae(), vae("collapsed", 0.01)])
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', html))
    assert references and {first or second for first, second in references} <= set(ids)


def test_every_variable_of_a_colour_is_defined_and_no_placeholder_is_left():
    with figures.plain_matplotlib():
        html = document("T", [vae(str(place)) for place in range(9)])
    assert set(re.findall(r"var\(--([\w-]+)\)", html)) <= set(re.findall(r"--([\w-]+):", html))
    assert not re.search(r"#010[123][0-9a-f]{2}\b", html)


def test_the_same_runs_give_the_same_bytes_and_matplotlib_stays_as_it_was(tmp_path):
    before = dict(matplotlib.rcParams)
    for name in ("a", "b"):
        with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 40} if name == "b" else {}):
            write_report(tmp_path / name, "T", [vae(), language_model()])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert dict(matplotlib.rcParams) == before


def test_eight_large_runs_stay_below_two_megabytes(tmp_path):
    means = np.random.default_rng(0).normal(size=(3000, 16)).astype(np.float32)
    records = [
        {"step": step, "split": "train", "reconstruction": 50 + step**3 % 7, "kl": step**3 % 11}
        for step in range(50, 50_000, 50)
    ]
    one = vae(means=means, codes=means, labels=["x", "y"] * 1500, log=records)
    write_report(tmp_path / "report.html", "T", [one] * 8)
    assert (tmp_path / "report.html").stat().st_size < 2_000_000


def test_what_cannot_be_shown_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(RequestError, match="^report: no runs given; it needs at least one$"):
        write_report(path, "T", [])
    message = "^report: working: 2 labels for 100 posterior means; give one for each sentence$"
    with pytest.raises(RequestError, match=message):
        write_report(path, "T", [vae(labels=["a", "b"])])
    few = vae()
    object.__setattr__(few, "codes", np.zeros((3, LATENT)))  # the shape check of the tests would refuse it first
    with pytest.raises(RequestError, match="3 codes for 100 posterior means"):
        write_report(path, "T", [few])
    with pytest.raises(WorkError, match="nowhere"):
        write_report(tmp_path / "nowhere" / "report.html", "T", [vae()])
    assert path.read_text() == "old"


# Text -------------------------------------------------------------------------------------------------------------


def test_text_from_models_and_corpora_is_never_markup():
    run = vae(
        EVIL,
        labels=[EVIL] * SENTENCES,
        label_name=EVIL,
        samples=[EVIL],
        interpolation=[EVIL],
        verdict=EVIL + ". " + EVIL,
        evaluation={**EVALUATION, "split": EVIL, "signature": EVIL, "hardware": EVIL, "rate_kind": EVIL},
    )
    found = page(run, language_model(name=EVIL), title=EVIL)
    assert "script" not in {tag for tag, _ in found.elements}
    assert found.text.count("alert('x')") >= 12


def test_quotes_cannot_leave_an_attribute():
    found = page(vae('" onmouseover="alert(1)'))
    assert not any("onmouseover" in attributes for _, attributes in found.elements)
    described = [attributes["aria-label"] or "" for _, attributes in found.elements if "aria-label" in attributes]
    assert any('" onmouseover="alert(1)' in alt for alt in described)


def test_control_characters_and_half_characters_are_replaced():
    assert text("a\x00b\x1b[31m\u202ec") == "a\ufffdb\ufffd[31m\ufffdc"
    assert text("x\ud800y") == "x?y"
    assert text("a\tb\nc") == "a b c"
    assert text("评论 & <b>") == "评论 &amp; &lt;b&gt;"
    assert "\ud800" not in page(vae(samples=["\ud800"])).text


def test_repeated_sentences_are_marked():
    found = page(vae(samples=["a", "b", "a", "a"], interpolation=["p", "q"]))
    items = [attributes.get("class") for tag, attributes in found.elements if tag == "li"]
    assert items[-6:] == [None, None, "again", "again", None, None]


# Verdicts and held-out sentences ---------------------------------------------------------------------------------


def widths(found: Page) -> list[float]:
    """The ends of the bars of the verdicts' pictures, and the places of their marks, in percent."""
    styles = [(attributes.get("style") or "") for tag, attributes in found.elements if tag == "i"]
    return [float(one) for style in styles for one in re.findall(r"(?:width|left): ([\d.]+)%", style)]


def test_a_verdict_has_a_picture_on_the_scales_of_all_runs():
    label = {"sentiment": LabelAgreement(0.75, 0.5), "aspect": LabelAgreement(0.9, 0.85)}
    kept = {"content_words_kept": 0.5, "content_words_kept_by_chance": 0.1, "neighbour_label_agreement": label}
    good = vae(diagnosis=diagnosis(kl=4.0, mutual_information=3.0, shuffle_gap=8.0, **kept))
    nothing = {**kept, "content_words_kept": 0.1, "neighbour_label_agreement": None}
    flat = vae("collapsed", diagnosis=diagnosis(kl=0.0, mutual_information=-0.01, shuffle_gap=0.0, **nothing))
    found = page(good, flat)
    assert widths(found) == [50, 37.5, 100, 100, 20, 75, 50, 0, 0, 0, 20, 20]
    for told in ("4.00 nats, MI 3.00", "8.00 nats", "50% (10% by chance)", "75% (50% by chance)"):
        assert told in found.text
    assert "0.00 nats, MI 0.00" in found.text and "nearest codes, same sentiment" in found.text
    alone = page(vae(diagnosis=diagnosis(kl=0.2, mutual_information=0.1)))
    assert widths(alone) == [20, 10]  # of a nat: it does not fill the scale for being alone
    assert widths(page(vae())) == []


def test_held_out_sentences_stand_beside_what_codes_make_of_them():
    found = page(vae(diagnosis=diagnosis()), language_model(diagnosis=diagnosis(examples=[])))
    assert "the food was good . reconstructed: the food was bad . nearest code: the soup was good ." in " ".join(
        found.text.replace("reconstructed", " reconstructed").replace("nearest", " nearest").split()
    )
    assert found.text.count("<script>alert('x')</script>") == 3 and "It has no codes of sentences." in found.text
    assert "Held-out sentences" not in page(vae()).text


def test_the_map_has_the_label_that_nearest_codes_share_most_beyond_chance():
    """Of 0.9 by 0.85 a third of what is possible, of 0.75 by 0.5 half; whatever the order of the runs."""
    label = {"aspect": LabelAgreement(0.9, 0.85), "mood": LabelAgreement(0.75, 0.5)}
    collapsed = {"aspect": LabelAgreement(0.86, 0.85), "mood": LabelAgreement(0.5, 0.5)}
    assert best_known([label, collapsed], ["aspect", "mood"]) == "mood"
    assert best_known([collapsed, label], ["aspect", "mood"]) == "mood"
    assert best_known([{}], ["aspect", "mood"]) == "aspect" and best_known([label], []) is None
    assert best_known([{"one": LabelAgreement(1.0, 1.0)}], ["one"]) == "one"  # all have the same value
    runs = [vae(labels=None, label_name=None, diagnosis=diagnosis(neighbour_label_agreement=label))]
    labels = {"aspect": ["food"] * SENTENCES, "mood": ["good", "bad"] * (SENTENCES // 2)}
    (run,) = labelled(runs, labels)
    assert (run.label_name, run.labels) == ("mood", labels["mood"]) and labelled(runs, {}) == runs
    assert "75% of the nearest codes have the same mood (50% by chance)." in page(run).text


def test_the_aggregated_posterior_stands_against_every_prior():
    drawn = 9.0 + np.zeros((50, LATENT), dtype=np.float32)
    with figures.plain_matplotlib():
        html = document("T", [vae(priors={"fitted prior": drawn})])
        other = document("T", [vae(normal=False, priors={"own prior, vamp": drawn, "fitted prior": drawn})])
    histogram, none = (next(one for one in svgs(page) if "means-0-figure_1" in _ids(one)) for page in (html, other))
    assert len(_dashed(histogram)) == 2 and len(_dashed(none)) == 2
    assert "N(0, 1), the prior" in html and "N(0, 1), the prior" not in other
    assert "own prior, vamp / fitted prior</li>" in other
    limit = figures.histogram_limit([vae().means, drawn])
    assert limit > 9  # all draws are on the axis
    circles = [next(one for one in svgs(page) if "map-0-figure_1" in _ids(one)) for page in (html, other)]
    assert [len(_dashed(one)) for one in circles] == [1, 0]


def _dashed(drawn: ElementTree.Element) -> list[str]:
    styles = [element.get("style") or "" for element in drawn.iter()]
    return [style for style in styles if "stroke-dasharray" in style and "var(--ink)" in style]


def test_fonts_of_the_system_draw_what_matplotlibs_own_lacks(monkeypatch):
    monkeypatch.setattr(
        fonts, "characters", lambda name: frozenset({fonts.OWN: "ab", "SimHei": "ab评"}.get(name, ""))
    )
    assert fonts.families(["a b", "b"]) == [fonts.OWN]
    assert fonts.families(["a评"]) == [fonts.OWN, "SimHei"]
    with pytest.warns(UserWarning, match="no font of this system has ภ: figures show boxes") as told:
        assert fonts.families(["评", "ภ", "ภ"]) == [fonts.OWN, "SimHei"]
    assert len(told) == 1


def test_matplotlibs_own_font_is_known():
    assert {"a", "é", "ж"} <= fonts.characters(fonts.OWN) and not fonts.characters("no such font")


# Scores -----------------------------------------------------------------------------------------------------------


def test_the_table_shows_the_numbers_given():
    found = scores(vae(), vae("other", evaluation={**EVALUATION, "kl": -0.0123, "reconstruction": 1234.5}))
    assert found.cells("Reconstruction") == ["21.75", "1,234.50"]
    assert found.numbers("Reconstruction") == [21.7514185, 1234.5]
    assert found.cells("KL") == ["1.90", "−0.012"]
    assert found.numbers("KL") == [1.9007644, -0.0123]
    assert found.cells("NLL") == ["22.55 ± 0.37|500 importance samples, 300 sentences"] * 2
    assert found.numbers("NLL")[:4] == [22.5457927, 0.3730581, 500, 300]
    assert found.cells("MI of sentence and code") == [f"0.86{OF_N}"] * 2
    between = vae(evaluation={**EVALUATION, "mutual_information_lower": 0.75})
    assert scores(between).cells("MI of sentence and code") == [f"0.75 to 0.86{OF_N}"]
    above = vae(evaluation={**EVALUATION, "rate_kind": "upper", "nll_iw_kind": "surrogate"})
    assert scores(above).cells("KL")[0].endswith("|upper")
    assert scores(above).cells("NLL")[0].endswith("|500 importance samples by a surrogate density, 300 sentences")
    assert scores(above).cells("MI of sentence and code") == [f"at most 0.86{OF_N}"]
    assert found.cells("Active units") == ["4 / 3|of 6; variance above 0.01 / above 0.2"] * 2
    assert found.cells("Perplexity of the NLL") == ["5.82|end mark counted"] * 2


def test_every_score_has_its_unit():
    rows = [row.split("|") for row in scores(vae()).rows]
    assert rows[0] == ["Score", "unit"]
    assert all(len(row) == 2 and row[1] for row in rows)
    units = {row[0]: row[1] for row in rows}
    assert (units["KL"], units["Bound"]) == ("nats/sentence", "nats/sentence; lower is better")


def test_missing_scores_are_dashes():
    found = scores(vae(evaluation={"kl": 0.5, "bound": math.nan, "perplexity_iw": math.inf}), language_model())
    assert found.cells("KL") == ["0.50", "–"]
    assert found.cells("Bound") == ["–", "23.65|2,000 sentences"]  # beside an NLL of 300
    assert found.cells("Perplexity of the NLL")[0] == "–"
    assert not {"MI of sentence and code", "Active units"} & {row.split("|")[0] for row in found.rows}
    assert "nan" not in found.text and "None" not in found.text


def test_optional_rows_come_with_their_scores():
    bare = [row.split("|")[0] for row in scores(vae()).rows]
    for name in ("Entropy of the corpus", "NLL above the true one", "Distinct samples"):
        assert name not in bare
    exact = {"entropy": 16.5, "gap_to_surprisal": 5.786777, "gap_to_surprisal_standard_error": 0.23313}
    extra = {**EVALUATION, **exact, "distinct_samples": 87, "prior_samples": 100}
    found = scores(vae(evaluation=extra), vae())
    assert found.cells("Entropy of the corpus") == ["16.50|exact", "–"]
    assert found.cells("NLL above the true one") == ["5.79 ± 0.23|on the NLL's sentences", "–"]
    assert found.cells("Distinct samples") == ["87|of 100 greedy ones from the prior", "–"]


def test_scores_of_different_sentences_carry_a_warning():
    other = vae(evaluation={**EVALUATION, "sentences": 1999})
    assert "do not compare their scores" in page(vae(), other).text
    assert "do not compare" not in page(vae(), vae()).text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2000, "2,000"), (0.1, "0.10"), (0.0999, "0.100"), (0.0, "0.000"), (-3.456, "−3.46"), (7, "7")],
)
def test_numbers_for_reading(value, shown):
    assert number(value) == f'<data value="{value!r}">{shown}</data>'


@pytest.mark.parametrize("value", [None, math.nan, math.inf, True, "7", [1]])
def test_what_is_no_number(value):
    assert number(value) is None


def test_shares_are_neither_all_nor_nothing_by_rounding():
    assert [percent(share) for share in (0.0, 0.004, 0.5, 0.996, 1.0)] == ["0%", "0.4%", "50%", "99.6%", "100%"]
    assert percent(0.99999) != "100%" and percent(0.00001) != "0%"


# Figures ----------------------------------------------------------------------------------------------------------


def test_histogram_by_hand():
    limit = figures.BINS / 2  # bins of width 1, centred on whole numbers
    counts = figures.histogram(np.array([[-0.4, 0.4], [1.2, -40.5], [40.5, 0.0]]), limit)
    assert counts.sum() == 6
    middle = figures.BINS // 2
    assert (counts[middle], counts[middle + 1], counts[0], counts[-1]) == (3, 1, 1, 1)


@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 100.0])
def test_every_mean_is_counted(scale):
    run = vae(scale=scale)
    assert run.means is not None and run.codes is not None
    limit = figures.histogram_limit([run.means, run.codes])
    for values in (run.means, run.codes):
        counts = figures.histogram(values, limit)
        assert counts.sum() == values.size
        numpy_counts, _ = np.histogram(values.astype(float).ravel(), np.linspace(-limit, limit, figures.BINS + 1))
        assert np.abs(counts - numpy_counts).sum() <= 2


def test_histogram_limit_holds_the_prior():
    assert figures.histogram_limit([np.zeros((4, 2))]) == pytest.approx(3, rel=0.01)
    assert figures.histogram_limit([np.array([[-7.0]])]) == pytest.approx(7, rel=0.01)
    assert norm.cdf(figures.histogram_limit([])) > 0.998


def test_the_map_against_an_eigendecomposition():
    means = np.random.default_rng(5).normal(size=(300, 5)) @ np.diag([3.0, 0.5, 2.0, 0.1, 1.0]) + 4.0
    places, shares = figures.principal_map(means)
    values, vectors = np.linalg.eigh(np.cov(means.T))
    for axis in (0, 1):
        direction = vectors[:, -1 - axis]
        direction = direction * np.sign(direction[np.abs(direction).argmax()])
        np.testing.assert_allclose(places[:, axis], means @ direction, atol=1e-9)
    np.testing.assert_allclose(shares, values[::-1][:2] / values.sum(), rtol=1e-9)


def test_the_map_of_codes_that_do_not_vary_or_have_one_dimension():
    assert figures.principal_map(np.zeros((3, 4)))[1] == [0.0, 0.0]
    places, shares = figures.principal_map(np.array([[1.0], [2.0], [-3.0]]))
    np.testing.assert_allclose(places, [[1, 0], [2, 0], [-3, 0]])
    assert shares == [1.0, 0.0]
    assert figures.principal_map(np.ones((1, 3)))[0].shape == (1, 2)


def test_the_map_draws_every_sentence_in_the_colour_of_its_label():
    labels = ["good"] * 70 + ["bad"] * 30
    with figures.plain_matplotlib():
        (drawn,) = [one for one in svgs(document("T", [vae(labels=labels)])) if "PathCollection" in _ids(one)]
    points = [element.get("style") or "" for element in drawn.iter() if element.tag.endswith("use")]
    assert sum("fill: var(--group-0)" in style for style in points) == 70
    assert sum("fill: var(--group-1)" in style for style in points) == 30


def test_rare_values_of_an_attribute_share_a_colour():
    labels = [f"v{row % 9}" for row in range(SENTENCES)]
    found = page(vae(labels=labels))
    assert "3 other values" in found.text
    assert "v5" in found.text and "v6" not in found.text


def test_bars_below_the_line_are_grey():
    with figures.plain_matplotlib():
        drawn = figures.kl_bars(EVALUATION["kl_per_dimension"], 0.9, 0, "bars")
    assert len(re.findall(r"fill: var\(--run-0\)", drawn)) == 4
    assert len(re.findall(r"fill: var\(--other\)", drawn)) == 2
    assert "4 of 6 dimensions reach 0.01 nats; 4 active units" in page(vae()).text


def test_curves_have_a_marker_for_every_validation():
    with figures.plain_matplotlib():
        drawn = figures.training_curve([log(), log()], "kl", "curve")
        assert drawn is not None
        assert len(re.findall(r"<use [^>]*fill: var\(--run-0\)", drawn)) == 2
        assert len(re.findall(r"<use [^>]*fill: var\(--run-1\)", drawn)) == 2
        assert figures.training_curve([log(None)], "kl", "curve") is None
        assert figures.training_curve([[]], "reconstruction", "curve") is None
        broken = [{"step": 1, "split": "valid", "kl": value} for value in (None, math.nan, math.inf)]
        assert figures.training_curve([broken], "kl", "curve") is None


def test_long_training_logs_are_drawn_as_means_of_equal_stretches():
    number = 2 * figures.CURVE_POINTS
    records = [{"step": step, "split": "train", "kl": step % 2} for step in range(number)]
    steps, values = figures._series(records, "train", "kl")
    assert values == [0.5] * figures.CURVE_POINTS
    assert steps == [2 * place + 0.5 for place in range(figures.CURVE_POINTS)]


def test_every_figure_says_what_it_shows_and_holds_no_foreign_text():
    run = vae("FOREIGN", labels=["FOREIGN"] * SENTENCES, label_name="FOREIGN")
    with figures.plain_matplotlib():
        html = document("T", [run])
    assert len(svgs(html)) == 5
    assert not any("FOREIGN" in "".join(one.itertext()) for one in svgs(html))
    images = [attributes for _, attributes in Page(html).elements if attributes.get("role") == "img"]
    assert len(images) == 5 and all("FOREIGN" in (image["aria-label"] or "") for image in images)
    assert html.count("<figcaption>") == 4


def test_runs_keep_their_colours_when_one_of_them_has_no_codes():
    with figures.plain_matplotlib():
        html = document("T", [language_model(), vae()])
    histogram = next(one for one in svgs(html) if "means-1-figure_1" in _ids(one))
    assert "run-1" in ElementTree.tostring(histogram, "unicode")
    assert "run-0" not in ElementTree.tostring(histogram, "unicode")


# Runs that lack something -----------------------------------------------------------------------------------------


def test_a_language_model_alone_says_why_there_is_nothing_to_draw():
    found = page(language_model())
    assert found.text.count("A language model: it has no code.") == 4
    assert "No run has a code, so none has a KL." in found.text
    assert found.cells("NLL") == ["22.55 ± 0.37|exact, 300 sentences"]
    assert "KL" not in {row.split("|")[0] for row in found.rows}


def test_codes_that_cannot_be_drawn_are_named():
    means = np.full((SENTENCES, LATENT), np.nan)
    assert page(vae(means=means)).text.count("Its codes hold numbers that are not finite.") == 2
    assert "Its codes were not given." in page(vae(means=None, codes=None)).text
    assert "Not measured" in page(vae(evaluation={"kl": 1.0})).text


def test_a_run_with_nothing_but_a_name():
    run = RunReport("bare", [], {}, None, None, None, None, [], [], "")
    found = page(run)
    assert "No samples were drawn." in found.text
    assert not {"Reconstruction", "KL"} & {row.split("|")[0] for row in found.rows}


def _ids(drawn: ElementTree.Element) -> str:
    return " ".join(element.get("id") or "" for element in drawn.iter())


CURVE = [{"beta": beta, "rate": rate, "reconstruction": 30.0 - rate} for beta, rate in ((0.01, 12.0), (10.0, 0.5))]
LOOKS = [
    {"step": step, "split": "look", "exchange_rate": rate, "weights": {"selected-kl": weight}}
    for step, rate, weight in ((10, None, 0.02), (20, 0.5, 0.02), (30, -0.1, 0.3))
]


def test_a_run_of_many_kl_weights_shows_its_curve_and_others_do_not():
    html = document("both", [vae("<many>", rates=CURVE), vae("one")])
    assert html.count("<h2>Rate and distortion</h2>") == 1
    assert "&lt;many&gt;: KL 0.50 at β = 10 to 12.00 at β = 0.01" in html and "one: KL" not in html
    assert "Rate and distortion" not in document("one", [vae("one")])


def test_looks_are_drawn_with_the_weight_that_followed_them():
    html = document("auto", [vae("auto", log=[*log(), *LOOKS]), vae("one")])
    assert html.count("<h2>What a nat of KL was worth</h2>") == 1 and "At the end auto: weight 0.3." in html
    assert "What a nat" not in document("one", [vae("one")])
