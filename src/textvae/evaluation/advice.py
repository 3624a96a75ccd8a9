"""Advice after a diagnosis: the command to try next, one that works."""

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from textvae.errors import RequestError
from textvae.objective.presets import load_settings
from textvae.objective.settings import Settings
from textvae.objective.terms.selected_kl import SelectedKl
from textvae.run import Run
from textvae.text.batches import TokenStore

# Rate terms that leave the code a number of nats without a penalty, used or not.
RESERVES = ("free-bits", "free-bits-total", "capacity", "capacity-max")
# A KL weight that ends where a nat of KL must bring 0.3 nats of reconstruction.
LOW_WEIGHT = "{schedule='linear', start=0.0, end=0.3, steps=0.5, unit='run'}"


def remedies(settings: Settings, collapsed: bool, far: bool, empty: bool = False) -> Iterator[tuple[str, str]]:
    """Yield what to change next, the best first: options of `textvae train`, and a name for the new run.

    `far`: the aggregated posterior is far from the prior. `empty`: the code is read but keeps little of a sentence.
    Against a collapse, and for a code that keeps little, `auto`; if that is there, its final KL weight is lowered.
    A posterior that `auto` does not have is made stronger where it can be, else gets a bag of words. Against
    distance what reserves nats becomes weaker.
    """
    own = settings.phase[-1].objective if settings.phase else {}
    terms, where = (own, f"phase.{len(settings.phase) - 1}.objective") if own else (settings.objective, "objective")
    selected = terms.get("selected-kl")
    if collapsed or empty:
        if isinstance(selected, SelectedKl):
            lower = selected.end / 3
            start = f" --set {where}.selected-kl.start={lower:.2g}" if lower < selected.start else ""
            yield f"--set {where}.selected-kl.end={lower:.2g}{start}", "lower-weight"
        else:
            yield "--method auto", "auto"
    if collapsed and (stronger := settings.model.posterior.stronger()) is not None:
        setting, value, word = stronger
        yield f"--set model.posterior.{setting}={value:g}", word
    if collapsed and "bow" not in terms:
        yield f"--set {where}.bow.weight=1", "bow"
    if empty or collapsed:
        yield f"--method bow-annealing --set {shlex.quote(f'objective.kl.weight={LOW_WEIGHT}')}", "bow"
        yield f"--set {shlex.quote(f'{where}.kl.weight={LOW_WEIGHT}')}", "lower-weight"
    if collapsed:
        yield "--method auto --set model.posterior.name=gaussian", "auto"
    if far and not collapsed and not empty:
        for name, field in (("mu-forcing", "margin"), *((reserve, "target") for reserve in RESERVES)):
            value = getattr(terms.get(name), field, 0.0)
            if value:
                yield f"--set {where}.{name}.{field}={value / 2:g}", f"smaller-{field}"


def works(settings: Path, options: str) -> bool:
    """Return True if `textvae train` accepts a settings file with these options."""
    words = shlex.split(options)
    given = list(zip(words[::2], words[1::2], strict=True))
    method = next((value for option, value in given if option == "--method"), None)
    try:
        load_settings(settings, method, [value for option, value in given if option == "--set"])
    except RequestError:
        return False
    return True


def ends(run: Run, store: TokenStore, rows: np.ndarray) -> str:
    """Return the ends of an interpolation as arguments: draws of the prior, or two sentences for an autoencoder."""
    if run.fitted is not None:
        return "--fitted-prior"
    if run.settings.model.posterior.has_rate:
        return "--prior"
    texts = run.tokenizer.decode_batch(store.sentences(rows[[0, -1]]))
    dashes = "-- " if any(text.startswith("-") for text in texts) else ""
    return dashes + " ".join(map(shlex.quote, texts))


def next_command(run: Run, changes: Iterable[tuple[str, str]], ends: str) -> str:
    """Return the command to try next, as it stands."""
    path = run.folder / "settings.toml"
    change = next((change for change in changes if works(path, change[0])), None)
    if change is None:
        return f"textvae interpolate {shlex.quote(str(run.folder))} {ends}"
    options, suffix = change
    return f"textvae train {shlex.quote(str(path))} {options} --out {next_folder(run.folder, suffix)}"


def next_folder(folder: Path, suffix: str) -> str:
    """Return a folder beside the run's that does not exist yet."""
    number, path = 2, folder.with_name(f"{folder.name}-{suffix}")
    while path.exists():
        path = folder.with_name(f"{folder.name}-{suffix}-{number}")
        number += 1
    return shlex.quote(str(path))
