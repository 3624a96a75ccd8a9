import io
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest

from textvae.cli.progress import Bar, Bars, TrainingProgress

from .conftest import call


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self):
        return True


def test_without_a_terminal_a_line_now_and_then(monkeypatch, capsys):
    clock = iter([0.0, 100.0, 101.0, 110.0, 111.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Bar("runs/\x1b[2J", "step") as bar:
        for step in (1000, 1001, 1010, 1011):  # a resumed run: the first 1,000 steps took no time
            bar.update(step, 2000, "KL 1.00")
    shown = capsys.readouterr()
    assert shown.err == "runs/\\x1b[2J: step 1,010 of 2,000, KL 1.00, 16 min 30 s left\n"
    assert shown.out == ""


def test_without_a_total_it_says_what_is_done(monkeypatch, capsys):
    clock = iter([0.0, 1.0, 20.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with Bar("encoding reviews.txt", "sentence") as bar:
        for done in (8192, 1_000_000):
            bar.update(done, None)
    assert capsys.readouterr().err == "encoding reviews.txt: sentence 1,000,000\n"


def test_on_a_terminal_a_bar_that_leaves_only_the_lines(monkeypatch, capsys):
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Bar("runs/[red]", "step") as bar:
        progress = TrainingProgress(bar)
        record = {"split": "train", "reconstruction": 20.0, "kl": 1.5, "tokens_per_second": 5000.0}
        progress(1, 12, record)
        record = {"split": "valid", "step": 2, "reconstruction": 20.0, "bound": 20.0, "perplexity_bound": 7.0}
        progress(2, 12, record)
        bar.live.refresh()
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stderr.getvalue())
    assert "runs/[red]" in shown and "2/12" in shown and "KL 1.50, reconstruction 20.00, 5,000 tokens/s" in shown
    assert "validation at step 2: NLL 20.00 nats/sentence, perplexity 7.00\n" in shown
    assert progress.step == 2
    assert capsys.readouterr().out == ""


def test_named_parts_have_a_bar_each(capsys):
    with Bars() as bars:
        for name, done in (("training", 1), ("training", 2), ("evaluating", 1)):
            bars.update(name, done, 2)
        assert [bar.title for bar in bars.bars.values()] == ["training", "evaluating"]
    assert not bars.bars
    assert capsys.readouterr().err == "training\nevaluating\n"


@pytest.fixture
def quickstart(monkeypatch):
    """`textvae.quickstart` without the training: `calls` has what it was called with."""
    module = ModuleType("textvae.quickstart")
    module.calls, module.fails = [], None

    def start(out, seed=0, progress=None):
        module.calls.append((str(out), seed))
        progress("training vanilla", 1, 2)
        if module.fails:
            raise module.fails
        scores = {"reconstruction": 20.0, "iw_sentences": 5, "distinct_samples": 7}
        report = SimpleNamespace(evaluation=scores, verdict="It has.", samples=["a \x1b[1m b"], interpolation=["c"])
        return [SimpleNamespace(**{**vars(report), "name": name}) for name in ("vanilla", "auto")]

    module.quickstart = start
    monkeypatch.setitem(sys.modules, "textvae.quickstart", module)
    return module


def test_quickstart_prints_table_samples_path_and_report(quickstart):
    result = call("quickstart", "--seed", 3)
    assert (result.exit_code, quickstart.calls) == (0, [("runs/quickstart", 3)])
    table, vanilla, auto, report = result.stdout.split("\n\n")
    assert [line.split()[:3] for line in table.splitlines()] == [
        ["vanilla", "auto"],
        ["reconstruction", "20.00", "20.00"],
        ["distinct", "samples", "7"],
    ]
    assert vanilla.startswith("vanilla: It has.") and auto.startswith("auto: It has.")
    assert "    a \\x1b[1m b" in vanilla and "    c" in vanilla
    assert report == "report: runs/quickstart/report.html\n"
    assert result.stderr == "training vanilla\n"


def test_an_interrupted_quickstart_says_how_to_go_on(quickstart):
    quickstart.fails = KeyboardInterrupt()
    result = call("quickstart", "--out", "an own place", "--seed", 4)
    assert (result.exit_code, result.stdout) == (130, "")
    assert "Resume with: textvae quickstart --out 'an own place' --seed 4" in result.stderr
