"""The toy problem of Fu et al. 2020, Figure 2 (section 3.1, appendix C): ten sequences, a latent plane.

    python recipes/fu2020_figure2.py [--iterations 4000] [--seeds 0 1 2] [--jobs 2] [--out results] [--tries]

Ten sequences of ten symbols, each with a single 1, are learned by a Gaussian and by a semi-implicit posterior under
three schedules of the KL's weight. A figure for each seed shows codes of every sequence, and a JSON file holds the
numbers behind what the paper says of the picture: can a sequence be told from its code, and is the mean of the
posteriors the prior?

What the paper leaves open and is chosen here: tanh encoder, decoder LSTM of 32 units with z at its state and its
input, embeddings of 8, Adam at 0.001, all ten sequences in each step, torch's default first weights, 10 noise
dimensions beside the encoder's input, `monotonic` rising over the first half, J codes for the Gaussian too.

With `--tries` other choices are made, one or two at a time, under the constant schedule, where the paper's
semi-implicit posterior separates the sequences too: numbers to `fu2020_figure2_tries.json` and `.md`.
"""

import argparse
import math
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

import textvae
from textvae.files import replacing, write_json, write_text
from textvae.model import TextVAE
from textvae.objective.objective import Objective
from textvae.objective.terms.kl import Kl
from textvae.parts.decoders.recurrent import RecurrentDecoder
from textvae.parts.encoders import Encoder
from textvae.parts.noise import mixed, sentence_noise, step_noise
from textvae.parts.posteriors import DiagonalGaussian, GaussianPosterior
from textvae.parts.posteriors.aggregate import aggregated_log_prob
from textvae.parts.posteriors.semi_implicit import SemiImplicit, SemiImplicitPosterior
from textvae.parts.priors import StandardNormal
from textvae.settings.schedules import Constant, Cyclical, Linear, Schedule
from textvae.text.batches import Batch
from textvae.text.cutting import SPECIALS
from textvae.training.launch import end_with_parent

N, LATENT, HIDDEN, UNITS, EMBEDDING, NOISE, LR = 10, 2, 64, 32, 8, 10, 1e-3
SCHEDULES: dict[str, Schedule] = {
    "constant": Constant(),
    "monotonic": Linear(start=0.0, end=1.0, steps=0.5, unit="run"),
    "cyclical": Cyclical(cycles=4, ratio=0.5),
}
POSTERIORS = ("gaussian", "semi-implicit")
NEIGHBOURS = 15
SHOWN = 300  # codes of a sequence in a panel


@dataclass(frozen=True)
class Choices:
    """What the paper leaves open, and what it may have meant otherwise."""

    noise: int = NOISE
    history: bool = True  # whether the decoder sees the symbols before
    state: bool = True  # whether it has z as its first state too, not at its input alone
    lr: float = LR
    weight: float = 1.0  # what the schedule is multiplied by: 0.5 where each symbol's nats count twice
    means: float = 1.0  # what the first weights of the encoder's means are multiplied by
    scale: float = 1.0  # what its first standard deviations are


PLAIN = Choices()
TRIES = {
    "as in the figure": PLAIN,
    "2 noise dimensions": Choices(noise=2),
    "100 noise dimensions": Choices(noise=100),
    "z at the input alone": Choices(state=False),
    "no history": Choices(history=False),
    "learning rate 0.005": Choices(lr=0.005),
    "narrow and far at first": Choices(means=5.0, scale=math.exp(-2)),
    "no history, narrow and far at first": Choices(history=False, means=5.0, scale=math.exp(-2)),
    "no history, learning rate 0.005": Choices(history=False, lr=0.005),
    "KL weight 0.5": Choices(weight=0.5),
    "KL weight 0.5, no history": Choices(weight=0.5, history=False),
    "KL weight 0.2": Choices(weight=0.2),
}
Cell = tuple[str, str, int, Choices]  # posterior, schedule, seed, the rest


class OneHot(Encoder):
    """The sequence as a vector of its symbols, 0 and 1, sent through `layers` tanh layers."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        sizes = [N, *[HIDDEN] * layers]
        rows = [(nn.Linear(a, b), nn.Tanh()) for a, b in zip(sizes, sizes[1:], strict=False)]
        self.layers = nn.Sequential(*[part for row in rows for part in row])

    def forward(
        self, ids: Int[Tensor, "batch time"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Return the encoder's vectors."""
        return self.layers((ids - len(SPECIALS)).float())

    def read(
        self, embedded: Float[Tensor, "batch time embedding"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch size"]:
        """Refuse embeddings: the sequence is a vector already."""
        raise TypeError("a one-hot encoder reads no embeddings")


def sequences() -> Batch:
    """The ten sequences. All are of the same length, so there is no end mark."""
    ids = torch.eye(N, dtype=torch.long) + len(SPECIALS)
    return Batch(ids, torch.full((N,), N), torch.arange(N))


def toy(posterior: str, seed: int, choices: Choices = PLAIN) -> TextVAE:
    """A model with either posterior; both have two layers between the one-hot vector and the last, linear one."""
    torch.manual_seed(mixed(seed, 0))
    decoder = RecurrentDecoder(
        len(SPECIALS) + 2,
        EMBEDDING,
        LATENT,
        "lstm",
        UNITS,
        inject=("state", "input") if choices.state else ("input",),
        word_keep=1.0 if choices.history else 0.0,
    )
    network: GaussianPosterior | SemiImplicitPosterior
    if posterior == "gaussian":
        encoder, network = OneHot(2), GaussianPosterior(HIDDEN, LATENT)
        last: nn.Module = network.parameters_of
    else:
        encoder, network = OneHot(0), SemiImplicitPosterior(N, LATENT, choices.noise, HIDDEN, layers=2)
        last = network.rest[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight[:LATENT] *= choices.means
        last.bias[LATENT:] += 2 * math.log(choices.scale)
    return TextVAE(decoder, encoder, network, StandardNormal(LATENT))


def train(
    model: TextVAE,
    schedule: str,
    seed: int,
    iterations: int,
    samples: int,
    choices: Choices = PLAIN,
) -> None:
    """`samples` codes a sequence, and as many components beside each, in every step: K = J."""
    objective = Objective({"kl": Kl(weight=SCHEDULES[schedule])}, iterations)
    optimizer = torch.optim.Adam(model.parameters(), choices.lr, fused=True)
    batch = sequences()
    for step in range(iterations):
        out = model(batch, step_noise(seed, step, N, slice(None)), samples, samples)
        loss, _ = objective(out, step, {"kl": choices.weight})
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()


def components(model: TextVAE, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Means and scales (sequence, component, latent) of q(z|n): the Gaussian's own, or `count` fresh ones."""
    batch = sequences()
    posterior = model.encode(batch, sentence_noise(seed, batch.index), 1, count - 1)
    if isinstance(posterior, SemiImplicit):
        return posterior.means, posterior.stds
    assert isinstance(posterior, DiagonalGaussian)
    return posterior.mean[:, None], posterior.std[:, None]


def densities(
    z: Float[Tensor, "codes latent"], means: Float[Tensor, "n c latent"], stds: Float[Tensor, "n c latent"]
) -> Float64[Tensor, "codes n"]:
    """log q(z|n) of every code for every n, each the mean over the components of n."""
    weight = means.new_full((means.shape[1],), -math.log(means.shape[1]))
    return torch.stack([aggregated_log_prob(z, *of, weight) for of in zip(means, stds, strict=True)], dim=1)


def neighbours_accuracy(z: Float[Tensor, "sample n latent"]) -> float:
    """How often most of the nearest codes in one half of the draws are of the sequence of a code in the other."""
    half = min(len(z) // 2, 500)
    known, asked = z[:half], z[half : 2 * half]
    nearest = torch.cdist(asked.flatten(0, 1), known.flatten(0, 1)).topk(min(NEIGHBOURS, half), largest=False)
    votes = F.one_hot(nearest.indices % N, N).sum(1)
    return (votes.argmax(1) == torch.arange(N).repeat(half)).double().mean().item()


@torch.no_grad()
def measures(model: TextVAE, seed: int, samples: int, draws: int) -> tuple[dict[str, Any], Tensor]:
    """Scores of a trained model in nats, and `draws` codes of each sequence.

    Densities of a semi-implicit posterior are means over as many components as `draws`, none of which a code was
    drawn from: so accuracy is that of a classifier that knows the posteriors, as far as they can be known. The MI
    and the KLs estimated so are too low in expectation, by little; `kl` is the surrogate's, from above.
    """
    batch, prior = sequences(), StandardNormal(LATENT)
    noise = sentence_noise(mixed(seed, 2), batch.index)
    posterior = model.encode(batch, noise, draws, 0)
    assert posterior is not None
    z = posterior.rsample(noise, draws)
    codes, own = z.flatten(0, 1), torch.arange(N).repeat(draws)
    log_q = densities(codes, *components(model, mixed(seed, 3), draws))
    log_own = log_q.gather(1, own[:, None])[:, 0]
    aggregate = log_q.logsumexp(1) - math.log(N)
    log_p = prior.log_prob(codes).double()
    noise = sentence_noise(mixed(seed, 4), batch.index)
    surrogate = model.encode(batch, noise, samples, samples)
    assert surrogate is not None
    rate = surrogate.rate(surrogate.rsample(noise, samples), prior)
    assert rate is not None
    reconstruction = -model.log_px(batch, z[:500]).sum(-1).mean().item()
    return {
        "accuracy": (log_q.argmax(1) == own).double().mean().item(),
        "accuracy_neighbours": neighbours_accuracy(z),
        "mutual_information": (log_own - aggregate).mean().item(),
        "mutual_information_ceiling": math.log(N),
        "kl": rate.nats.mean().item(),
        "rate_kind": rate.kind,
        "kl_estimated": (log_own - log_p).mean().item(),
        "kl_aggregate_to_prior": (aggregate - log_p).mean().item(),
        "reconstruction": reconstruction,
        "bound": reconstruction + rate.nats.mean().item(),
    }, z


def drawing(models: list[tuple[dict[str, Any], Tensor]], path: Path) -> None:
    """Two rows of three panels: codes coloured by sequence, the prior's circles at 1, 2 and 3 deviations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Circle

    figure, axes = pyplot.subplots(2, 3, figsize=(10.5, 7.4), sharex=True, sharey=True, layout="constrained")
    colours = pyplot.get_cmap("tab10").colors
    for panel, (row, codes) in zip(axes.flat, models, strict=True):
        for n in range(N):
            panel.scatter(codes[:, n, 0], codes[:, n, 1], s=3, color=colours[n], alpha=0.6, linewidths=0)
        for radius in (1, 2, 3):
            panel.add_patch(Circle((0, 0), radius, fill=False, color="#8a8a8a", linewidth=0.6))
        panel.set(aspect="equal", xlim=(-3.6, 3.6), ylim=(-3.6, 3.6))
        panel.set_title(
            f"{row['posterior']}, {row['schedule']}\naccuracy {row['accuracy']:.2f}, "
            f"KL(q(z) || p(z)) {row['kl_aggregate_to_prior']:.3f}",
            fontsize=10,
        )
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def run(cell: Cell, iterations: int, samples: int, draws: int) -> tuple[dict[str, Any], Tensor]:
    """Train and measure one model: its row, and codes to show."""
    torch.set_num_threads(1)  # so many jobs, so many cores; and the same numbers whatever the number of jobs
    posterior, schedule, seed, choices = cell
    model = toy(posterior, seed, choices)
    train(model, schedule, seed, iterations, samples, choices)
    scores, z = measures(model, seed, samples, draws)
    other = {key: value for key, value in asdict(choices).items() if value != getattr(PLAIN, key)}
    print(
        *cell[:3], other or "", {key: round(v, 3) for key, v in scores.items() if isinstance(v, float)}, flush=True
    )
    return {"posterior": posterior, "schedule": schedule, "seed": seed, **scores}, z[:SHOWN]


def runs(cells: list[Cell], jobs: int, *settings: int) -> list[tuple[dict[str, Any], Tensor]]:
    """All models, `jobs` at a time."""
    repeated = [[value] * len(cells) for value in settings]
    if jobs == 1:
        return list(map(run, cells, *repeated))
    with ProcessPoolExecutor(jobs, get_context("spawn"), end_with_parent) as pool:
        return list(pool.map(run, cells, *repeated))


def tried(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Every other choice under the constant schedule with both posteriors, and a table of means over seeds."""

    def cell(posterior: str, seed: int, choices: Choices) -> Cell:
        of = choices if posterior == "semi-implicit" else replace(choices, noise=NOISE)  # a Gaussian has none
        return posterior, "constant", seed, of

    asked = [
        (name, cell(posterior, seed, choices))
        for (name, choices), posterior, seed in product(TRIES.items(), POSTERIORS, given.seeds)
    ]
    cells = list(dict.fromkeys(cell for _, cell in asked))
    done = dict(zip(cells, runs(cells, given.jobs, given.iterations, given.samples, given.draws), strict=True))
    rows = [{"try": name, **done[cell][0], "choices": asdict(cell[3])} for name, cell in asked]
    names = {"accuracy": "accuracy", "kl_aggregate_to_prior": "KL(q(z) ‖ p(z))", "bound": "bound"}
    heads = ["choice", *names.values(), *names.values()]
    for first, posterior in zip((1, 1 + len(names)), POSTERIORS, strict=True):
        heads[first] = f"{posterior}: {heads[first]}"
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for name in TRIES:
        numbers = [
            fmean(row[score] for row in rows if (row["try"], row["posterior"]) == (name, posterior))
            for posterior, score in product(POSTERIORS, names)
        ]
        lines.append(f"| {' | '.join([name, *(f'{number:.2f}' for number in numbers)])} |")
    write_text(given.out / "fu2020_figure2_tries.md", "\n".join(lines) + "\n")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, and of several their standard deviations; accuracy of nearest neighbours in parentheses."""
    names = ("accuracy", "MI", "KL(q(z) ‖ p(z))")
    heads = ["", *(f"{posterior}: {name}" for posterior in POSTERIORS for name in names)]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for schedule in SCHEDULES:
        cells = [schedule]
        for posterior in POSTERIORS:
            own = [row for row in rows if (row["posterior"], row["schedule"]) == (posterior, schedule)]
            near = fmean(row["accuracy_neighbours"] for row in own)
            cells += [f"{spread([row['accuracy'] for row in own], 2)} ({near:.2f})"]
            cells += [spread([row["mutual_information"] for row in own], 2)]
            cells += [spread([row["kl_aggregate_to_prior"] for row in own], 3)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def spread(values: list[float], digits: int) -> str:
    """The mean, and of several values their standard deviation."""
    behind = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{behind}"


def drawn(given: argparse.Namespace) -> list[dict[str, Any]]:
    """The figure of each seed, the table, and its rows."""
    cells = [(*cell, PLAIN) for cell in product(POSTERIORS, SCHEDULES, given.seeds)]
    done = runs(cells, given.jobs, given.iterations, given.samples, given.draws)
    for seed in given.seeds:
        drawing([(row, z) for row, z in done if row["seed"] == seed], given.out / f"fu2020_figure2_seed{seed}.png")
    rows = [row for row, _ in done]
    write_text(given.out / "fu2020_figure2.md", table(rows))
    return rows


def main() -> None:
    """Train, measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=100, help="J and K")
    parser.add_argument("--draws", type=int, default=2000, help="codes, and components, of a sequence in measures")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="models trained at once")
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--tries", action="store_true", help="other choices under the constant schedule instead")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = tried(given) if given.tries else drawn(given)
    settings = {name: getattr(given, name) for name in ("iterations", "samples", "draws", "seeds")}
    fixed: dict[str, Any] = {"sequences": N, "latent": LATENT, "hidden": HIDDEN, "noise": NOISE}
    fixed |= {"units": UNITS, "embedding": EMBEDDING, "lr": LR}
    schedules = {name: schedule.model_dump(mode="json") for name, schedule in SCHEDULES.items()}
    document = {
        "recipe": "fu2020/figure2",
        "settings": settings | fixed | {"schedules": schedules, "neighbours": NEIGHBOURS},
        "versions": {
            "textvae": textvae.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "hardware": {"processor": platform.machine(), "device": "cpu", "threads": 1},
        "rows": rows,
    }
    write_json(given.out / f"fu2020_figure2{'_tries' if given.tries else ''}.json", document)


if __name__ == "__main__":
    main()
