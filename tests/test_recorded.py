"""Eight tiny runs give the numbers and texts that were recorded; by the same libraries to the last bit."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "recorded" / "record.py"
specification = importlib.util.spec_from_file_location("record", SCRIPT)
record = importlib.util.module_from_spec(specification)
specification.loader.exec_module(record)


@pytest.mark.slow
def test_numbers_and_texts_are_those_that_were_recorded():
    same = json.loads(record.RECORD.read_text())["libraries"] == record.libraries()
    command = [sys.executable, str(SCRIPT), *([] if same else ["--tolerance", "1e-5"])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, "nothing differs\n"), done.stdout + done.stderr


def test_differences_are_found_and_named():
    old = {"weights": {"a": "1f"}, "kl": 1.0, "texts": ["a", "b"], "gone": None, "many": 1e6}
    new = {"weights": {"a": "20"}, "kl": 1.0 + 1e-7, "texts": ["a", "c"], "new": 1, "many": 1e6 + 0.5}
    found = list(record.differences(old, new, 0.0))
    assert [line.split(":")[0] for line in found] == [
        "/weights/a", "/kl", "/texts/1", "/gone", "/many", "/new"
    ]  # fmt: skip
    assert found[2] == "/texts/1: 'b' was recorded, now 'c'"
    within = [line.split(":")[0] for line in record.differences(old, new, 1e-6)]
    assert within == ["/texts/1", "/gone", "/new"]
    assert list(record.differences({"n": 1}, {"n": True}, 1.0)) == ["/n: 1 was recorded, now True"]
