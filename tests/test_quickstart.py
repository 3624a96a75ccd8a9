import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from textvae.errors import RequestError, WorkError
from textvae.quickstart import _listen, _trained, quickstart, settings_of
from textvae.report.content import RunReport


class Worker:
    """A process that has ended."""

    def is_alive(self) -> bool:
        return False


class Messages(list):
    """A queue that has everything in it already."""

    def get(self, timeout: float) -> object:
        import queue

        if not self:
            raise queue.Empty
        return self.pop(0)

    def empty(self) -> bool:
        return not self


def test_the_two_runs_differ_in_the_objective_and_the_fitted_prior_alone():
    vanilla, auto = settings_of("vanilla", 3), settings_of("auto", 3)
    assert vanilla.objective.keys() == {"kl"} and auto.objective.keys() == {"selected-kl", "bow"}
    train = vanilla.train.model_copy(update={"fit_prior": True})
    assert vanilla.model_copy(update={"objective": auto.objective, "train": train}) == auto
    assert vanilla.train.seed == 3 and vanilla.data.corpus == "grammar"


def test_progress_and_errors_of_the_processes_come_through():
    told = []
    reports = [RunReport(name, [], {}, None, None, None, None, [], [], "") for name in ("b", "a")]
    sent = Messages([("training", 1, 2), *reports])
    assert _listen([Worker(), Worker()], sent, lambda *one: told.append(one)) == {"b": reports[0], "a": reports[1]}
    assert told == [("training", 1, 2)]
    with pytest.raises(RequestError, match="runs/x: taken"):
        _listen([Worker()], Messages([RequestError("runs/x: taken")]), None)
    with pytest.raises(WorkError, match="ended without an error message"):
        _listen([Worker()], Messages(), None)


@pytest.mark.slow
def test_the_quickstart_tells_collapse_from_use(tmp_path):
    out = tmp_path / "quickstart"
    vanilla, auto = quickstart(out)
    assert vanilla.verdict.startswith("The posterior has collapsed")
    assert auto.verdict.startswith("The posterior has not collapsed")
    assert auto.evaluation["reconstruction"] < vanilla.evaluation["reconstruction"]
    assert auto.evaluation["nll_iw"] < vanilla.evaluation["nll_iw"] + vanilla.evaluation["nll_iw_standard_error"]
    assert vanilla.evaluation["distinct_samples"] < 20 < 50 < auto.evaluation["distinct_samples"]
    assert len(set(auto.interpolation)) > 3
    for report in (vanilla, auto):  # claim X1: nothing beats the truth
        gap, error = (report.evaluation[f"gap_to_surprisal{part}"] for part in ("", "_standard_error"))
        assert gap > -3 * error
        assert len(report.samples) == 5 and len(report.interpolation) == 7
    page = (out / "report.html").read_text()
    assert len(page) < 2_000_000 and not re.search(r'(?:src|href)="http', page)
    steps = []  # a finished run is used again
    again = _trained(out / "vanilla", settings_of("vanilla", 0), lambda now, total: steps.append(now))
    assert not steps and again.log() == vanilla.log
    with pytest.raises(RequestError, match="holds a run with other settings"):
        _trained(out / "vanilla", settings_of("vanilla", 1), print)


def gone(pid: int) -> bool:
    """Whether a process has ended, though perhaps not been asked for yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def waited(condition, seconds):
    """Whether a condition came true within so many seconds."""
    end = time.monotonic() + seconds
    while not (came := condition()) and time.monotonic() < end:
        time.sleep(0.1)
    return came


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM], ids=lambda kind: kind.name)
def test_the_processes_end_with_the_one_that_started_them(tmp_path, kind):
    """Those that train save first, so that the quickstart can be gone on with."""
    runs = [tmp_path / "out" / method for method in ("vanilla", "auto")]
    command = [sys.executable, "-m", "textvae", "quickstart", "--out", str(tmp_path / "out")]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    workers = []
    try:
        began = waited(lambda: all((run / "log.jsonl").exists() and (run / ".lock").exists() for run in runs), 400)
        assert began, program.poll()
        workers = [json.loads((run / ".lock").read_text())["pid"] for run in runs]
        assert not any(map(gone, workers))
        program.send_signal(kind)
        code = program.wait(timeout=90)
        assert waited(lambda: all(map(gone, workers)), 90)
    finally:
        for pid in (*workers, program.pid):
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)
        told = program.communicate()[1]
    assert code == (130 if kind == signal.SIGTERM else -signal.SIGKILL)
    assert "Traceback" not in told
    assert ("Resume with: textvae quickstart" in told) == (kind == signal.SIGTERM)
    for run in runs:
        assert (run / "checkpoint" / "last.safetensors").exists() and not (run / ".lock").exists()
