"""Every score of an evaluation, declared once.

`SCORES` makes, in this order, the JSON document of `evaluate` and its check on reading, the tables of `evaluate`
and `compare`, the report, the names of `compare --scores` and the tables of `docs/metrics.md` (`recipes/pages.py`).
"""

from typing import Any

from textvae.evaluation import showing
from textvae.evaluation.entry import Score, of
from textvae.metrics.weights import LOW
from textvae.run.records import Count, Error, Share

NATS = "nats/sentence"

LIKELIHOOD = (
    Score(
        "sentences",
        of("sentences"),
        unit="count",
        kind=Count,
        described=True,
        section="likelihood",
        formula="sentences that were scored, and their tokens with and without end marks",
    ),
    Score("tokens", of("tokens"), kind=Count, section="likelihood"),
    Score("tokens_without_end", of("tokens_without_end"), kind=Count, section="likelihood"),
    Score(
        "reconstruction",
        of("reconstruction"),
        label="reconstruction",
        unit=NATS,
        reading="−log p(x|z): what is left to predict when the code is known.",
        better="lower",
        averaged=True,
        column="reconstr.",
        section="likelihood",
        formula="E over z ~ q(z|x) of −log p(x|z), one draw",
        source="Bowman et al. 2016, eq. 1",
        caveats="for an autoencoder it bounds nothing; papers also average over tokens",
    ),
    Score(
        "kl",
        of("kl"),
        label="KL",
        unit=NATS,
        reading="The rate of the code, and the most information it can carry. Near 0, it carries none.",
        error="kl_standard_error",
        averaged=True,
        column="KL",
        section="likelihood",
        formula="KL(q(z|x) ‖ p(z)), or its estimate",
        source="Bowman et al. 2016, eq. 1",
        caveats="Monte Carlo estimates can be negative; unless the KL is exact, its standard error over sentences "
        "is printed; `rate_kind` is `exact`, `monte-carlo` (log q − log p of the draw), or `upper` (semi-implicit "
        "and refined posteriors: an upper bound); never the clipped or weighted KL of training",
        show=showing.show_rate,
        cell=showing.rate_cell,
        notes=showing.rate_notes,
    ),
    Score("rate_kind", of("rate_kind"), kind=str, described=True, section="likelihood"),
    Score(
        "bound",
        of("bound"),
        label="bound",
        unit=NATS,
        reading="Reconstruction + KL. The true −log p(x) is at most this.",
        better="lower",
        error="bound_standard_error",
        averaged=True,
        section="likelihood",
        formula="reconstruction + kl, at least −log p(x) on average",
        source="Bowman et al. 2016, eq. 1",
        caveats="for a language model −log p(x) itself",
        show=showing.show_bound,
        notes=showing.rate_notes,
    ),
    Score("bound_samples", lambda measured: 1, kind=Count, section="likelihood"),
    Score(
        "bound_iw_sentences",
        of("bound_iw_sentences"),
        label="bound beside NLL",
        unit=NATS,
        reading="The bound of the sentences that the NLL is of: compare the NLL with this one.",
        better="lower",
        averaged=True,
        column="bound of these",
        section="likelihood",
        formula="the bound of the sentences of `nll_iw`",
        caveats="for a language model the same number",
        show=showing.show_bound_of_drawn,
    ),
    Score(
        "nll_iw",
        of("nll"),
        label="NLL",
        unit=NATS,
        reading="Importance-weighted −log p(x): a tighter bound, from many codes.",
        better="lower",
        error="nll_iw_standard_error",
        averaged=True,
        column="NLL",
        section="likelihood",
        formula="−log (1/S) Σ p(x, z_s) / q(z_s|x)",
        source="Burda et al. 2016, eq. 8",
        caveats="above the truth, the more so the fewer samples; on `iw_sentences` drawn sentences, so its "
        "perplexity is of those alone; the standard error is over sentences; `nll_iw_kind` is `surrogate` for "
        "semi-implicit posteriors of `iw_components` components",
        show=showing.show_nll,
        cell=showing.nll_cell,
        notes=showing.nll_notes,
    ),
    Score("nll_iw_kind", of("nll_kind"), kind=str, described=True, section="likelihood"),
    Score("iw_sentences", of("iw_sentences"), kind=Count, described=True, section="likelihood"),
    Score("iw_samples", of("samples"), kind=Count, described=True, section="likelihood"),
    Score("iw_components", of("iw_components"), kind=Count, section="likelihood"),
    Score(
        "iw_effective_samples",
        lambda measured: measured.effective_samples(0.5),
        label="effective samples",
        unit="samples",
        reading="Codes of equal weight that the NLL is worth. With few, or heavy tails, it may be too high.",
        better="higher",
        kind=Error,
        section="likelihood",
        formula="(Σ w)² / Σ w² of a sentence's S weights w = p(x, z_s) / q(z_s|x): median over sentences, 5th "
        "percentile",
        source="Kong 1992; Owen 2013, 9.3",
        caveats="the NLL of a sentence is about 1 / 2ESS nats too high; the percentile, unlike the smallest, does "
        "not fall with the number of sentences; known from the drawn weights alone: large where a heavy tail has "
        "not been drawn",
        show=showing.show_effective,
    ),
    Score(
        "iw_effective_samples_low",
        lambda measured: measured.effective_samples(LOW),
        kind=Error,
        section="likelihood",
    ),
    Score(
        "iw_heavy_tailed",
        of("heavy_tailed"),
        unit="share",
        better="lower",
        kind=Share,
        section="likelihood",
        formula="share of sentences whose largest weights have Pareto's k̂ above min(1 − 1 / log₁₀ S, 0.7)",
        source="Vehtari et al. 2024",
        caveats="extrapolates the tail that was drawn; neither score sees a mode of the posterior that no sample "
        "came near; `null` for S < 25",
    ),
    Score(
        "entropy",
        of("truth.entropy"),
        label="entropy of the corpus",
        unit=NATS,
        detail="exact",
        reading="Known exactly here. No model can have a lower −log p(x) on average.",
        section="likelihood",
        formula="exact entropy of the corpus `grammar`",
    ),
    Score(
        "surprisal",
        of("truth.surprisal"),
        unit=NATS,
        section="likelihood",
        formula="exact mean −log p of the sentences of `nll_iw` under `grammar`",
    ),
    Score(
        "gap_to_surprisal",
        of("truth.gap"),
        label="NLL above the true one",
        unit=NATS,
        detail="on the NLL's sentences",
        reading="NLL − the true −log p of the same sentences: how far the model is from the text's source.",
        better="lower",
        error="gap_to_surprisal_standard_error",
        section="likelihood",
        formula="nll_iw − surprisal",
        caveats="estimates KL(data ‖ model); with few sentences it may be negative",
    ),
    Score(
        "perplexity_bound",
        of("perplexity_bound"),
        label="perplexity of the bound",
        unit="per token",
        detail="end mark counted",
        reading="exp(bound per token): equally likely words to choose from.",
        better="lower",
        kind=Error,
        section="likelihood",
        formula="exp(total nats of the bound / total tokens)",
        caveats="end marks counted; `…_without_end` divides by tokens without them; both counts are in the "
        "document",
    ),
    Score("perplexity_bound_without_end", of("perplexity_bound_without_end"), kind=Error, section="likelihood"),
    Score(
        "perplexity_iw",
        of("perplexity_iw"),
        label="perplexity of the NLL",
        unit="per token",
        detail="end mark counted",
        reading="exp(NLL per token): equally likely words to choose from.",
        better="lower",
        kind=Error,
        section="likelihood",
        formula="exp(total nats of the NLL / total tokens)",
        caveats="as `perplexity_bound`, of the sentences of `nll_iw`",
    ),
    Score("perplexity_iw_without_end", of("perplexity_iw_without_end"), kind=Error, section="likelihood"),
    Score(
        "bits_per_character",
        of("bits_per_character"),
        label="bits per character",
        unit="bits",
        detail="by the bound",
        reading="The bound in other units: comparable across tokenizers.",
        better="lower",
        section="likelihood",
        formula="total nats of the bound / ln 2 / characters",
        source="Semeniuta et al. 2017, Figure 4",
        caveats="the end mark stands for the line break and is counted; models of characters only",
    ),
    Score("signature", of("signature"), kind=str, section="likelihood"),
)

CODE = (
    Score(
        "mutual_information",
        of("codes.information.nats"),
        label="MI of sentence and code",
        unit="nats",
        reading="What codes tell of their sentences. The estimate cannot exceed its ceiling. Two numbers are "
        "estimates from below and from above.",
        averaged=True,
        column="MI",
        formula="E [log q(z|x) − log (1/N) Σ_m q(z|x_m)], one z for each of N sentences",
        source="Hoffman & Johnson 2016; He et al. 2019",
        caveats="cannot exceed `mutual_information_ceiling` = ln N, so N and ln N are always beside it; a little "
        "below 0 by chance; for a semi-implicit posterior (`rate_kind` is `upper`) an estimate from above, since a "
        "code's own component stands out in its surrogate density: narrow components alone raise it; for a refined "
        "one too (`upper`), since it is that of sentence and refinement's noise; given labels it is I(x; z | c)",
        show=showing.show_information,
        cell=showing.information_cell,
        notes=showing.information_notes,
    ),
    Score("mutual_information_sentences", of("codes.information.sentences"), kind=Count, described=True),
    Score("mutual_information_ceiling", of("codes.information.ceiling"), kind=Error, described=True),
    Score(
        "mutual_information_lower",
        of("codes.information_lower.nats"),
        unit="nats",
        averaged=True,
        formula="the same, both densities by those components of a semi-implicit posterior, or that refinement of "
        "a refined one, that the codes were not drawn from",
        source="Barber & Agakov 2003; Poole et al. 2019",
        caveats="an estimate from below: on average MI among these sentences lies between the two, which converge "
        "as K (`model.posterior.components`) grows; with K = 0, the lower estimate uses 49 other components and "
        "the upper only the code's own; below 0 where components are too narrow to stand for each other; null for "
        "all other posteriors",
    ),
    Score(
        "active_units",
        of("codes.active_units"),
        label="active units",
        unit="dimensions",
        reading="Dimensions whose posterior means have a variance above 0.01, and above 0.2.",
        parts=("0.01", "0.2"),
        kind=dict[str, Error],
        averaged=True,
        column="active units",
        formula="dimensions whose E[z|x] varies over sentences by more than 0.01, and than 0.2 (> as in fu2020; "
        "prokhorov2019 counts ≥ 0.01, the same number unless a variance is exactly that)",
        source="Burda et al. 2016, section 5",
        caveats="of `latent`; population variance; E[z|x] is the posterior mean of a Gaussian or a mixture, A(κ) μ "
        "= I_{d/2}(κ) / I_{d/2−1}(κ) μ for vMF (not the direction μ, which is the code), for a flow or a "
        "multi-step posterior the mean of 50 codes, for a semi-implicit posterior that of its components and for a "
        "refined one that of two refinements by independent noise: what these draws add to the variance is "
        "subtracted without bias; says nothing about the decoder",
        show=showing.show_units,
        cell=showing.units_cell,
        notes=showing.note_of("Active units: variance of their means above 0.01 / above 0.2."),
    ),
    Score("latent", of("codes.latent"), kind=Count, described=True),
    Score(
        "kl_per_dimension",
        of("codes.kl_per_dimension"),
        unit="nats",
        kind=list[float],
        formula="mean over sentences of each dimension's KL",
        caveats="only where the rate is a sum over dimensions",
    ),
    Score(
        "shuffle_gap",
        of("codes.shuffle_gap"),
        label="shuffle gap",
        unit=NATS,
        detail="lost with another sentence's code",
        reading="What a sentence loses with another one's code. At 0, codes go unread.",
        error="shuffle_gap_standard_error",
        averaged=True,
        column="shuffle gap",
        formula="reconstruction from another sentence's code − from its own",
        caveats="0: the decoder does not read the code, whatever the KL is; codes are moved along a cycle, and the "
        "standard error accounts for the code that neighbours in it share; `null` for one sentence",
        notes=showing.note_of("Shuffle gap: what reconstruction loses with another sentence's code."),
    ),
    Score(
        "kl_moment_matched",
        of("codes.kl_moment_matched"),
        label="aggregated posterior",
        unit="nats",
        detail="from the prior, by moments",
        reading="KL from a Gaussian with the moments of all codes to the prior. Near 0: draws of the prior are "
        "known codes.",
        error="kl_moment_matched_standard_deviation",
        averaged=True,
        formula="KL(N(m, S) ‖ N(0, I)), m and S the mean and full covariance of sampled codes, one a sentence",
        source="Prokhorov et al. 2019, section 3.2",
        caveats="mean of 5 draws of all codes, `…_standard_deviation` over them; about d (d + 3) / 4N for the "
        "prior itself (`diagnose` prints it beside it)",
    ),
    Score(
        "mmd_squared",
        of("codes.mmd_squared"),
        label="MMD² to the prior",
        digits=5,
        reading="The same without a Gaussian. Codes of the prior itself deviate from 0 by the number below.",
        error="mmd_squared_standard_error",
        averaged=True,
        formula="E k(z, z′) − 2 E k(z, y) + E k(y, y′), z and z′ codes of different sentences, y and y′ from N(0, "
        "I), k(x, y) = exp(−|x − y|² / 2s²), s² = d; the parts with y exact",
        source="Gretton et al. 2012, lemma 6; Zhao et al. 2019",
        caveats="unbiased, so below 0 by chance; the prior's own codes deviate from 0 by `…_prior_deviation`; "
        "another bandwidth is another number (`mmd_signature`); one code a sentence, of up to 10,000 evenly "
        "spaced; the prior must be N(0, I)",
        show=showing.show_mmd,
    ),
    Score("mmd_squared_prior_deviation", of("codes.mmd.prior_deviation"), kind=Error),
    Score("mmd_signature", of("codes.mmd_signature"), kind=str),
    Score(
        "log_det_covariance",
        of("codes.log_det_covariance"),
        label="log det covariance",
        reading="0 for a standard normal prior; far below it where codes are few small islands.",
        error="log_det_covariance_standard_deviation",
        averaged=True,
        formula="ln det Cov of sampled codes, one a sentence, divided by N − 1",
        source="Prokhorov et al. 2019, section 3.2",
        caveats="mean of 5 draws, `…_standard_deviation` over them; 0 for a standard normal prior; needs more "
        "sentences than dimensions",
        show=showing.show_determinant,
    ),
    Score(
        "mean_squared_norm",
        of("codes.mean_squared_norm"),
        label="squared norm of the mean",
        reading="How far the centre of all codes is from the prior's.",
        error="mean_squared_norm_standard_deviation",
        averaged=True,
        formula="‖mean of the sampled codes‖²",
        source="Prokhorov et al. 2019, section 3.2",
        caveats="mean of 5 draws, `…_standard_deviation` over them; the norm of the mean, not the mean of norms; "
        "latent / N for a standard normal prior itself",
        show=showing.show_norm,
    ),
    Score("latent_signature", of("codes.signature"), kind=str),
    Score(
        "information_bounds",
        of("information_bounds"),
        label="H - D, I and R",
        unit="nats",
        reading="What codes must tell, what they tell, and the rate. The order holds within 3 standard errors, or "
        "does not.",
        parts=(
            *("entropy", "distortion", "rate", "mutual_information", "mutual_information_lower"),
            *("ceiling", "lower"),
            *("above_lower", "above_lower_standard_error", "below_upper", "below_upper_standard_error"),
            *("sentences", "holds", "reason"),
        ),
        kind=dict[str, Any],
        formula="H − D ≤ I ≤ R on the corpus `grammar`: exact entropy − reconstruction, the estimate of I above, "
        "KL, all by the same codes",
        source="Alemi et al. 2018; prokhorov2019, section 2.1",
        caveats="`holds`: neither gap is more than 3 of its paired standard errors below 0; null, with the reason, "
        "where H − D is above ln N − 2, since I is estimated too low there. With two estimates, that from below is "
        "compared with H − D (null where it is less), that from above with R",
        show=showing.show_bounds,
    ),
    Score(
        "distinct_samples",
        label="distinct samples",
        reading="Different sentences among greedy samples of the prior. Few: the model repeats itself.",
        better="higher",
        kind=Count,
        show=showing.show_distinct,
    ),
)

SCORES: tuple[Score, ...] = (*LIKELIHOOD, *CODE)
