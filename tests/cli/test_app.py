import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import textvae
from textvae.cli.output import columns, document, number, plain
from textvae.cli.progress import duration, training_text, validation_line
from textvae.errors import WorkError

from .conftest import call, refused

COMMANDS = [
    "quickstart",
    "train",
    "diagnose",
    "evaluate",
    "fit-prior",
    "compare",
    "report",
    "sample",
    "reconstruct",
    "impute",
    "chat",
    "adversarial",
    "encode",
    "decode",
    "neighbours",
    "log-prob",
    "interpolate",
    "homotopy",
    "sensitivity",
    "transfer",
    "transfer-curve",
    "score",
    "probe",
    "syntax",
    "fce",
    "pack",
    "data",
]
PROGRAM = [sys.executable, "-m", "textvae"]


def test_asking_for_help_imports_nothing_heavy():
    code = (
        "import sys, textvae.cli\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'matplotlib', 'tokenizers', 'pyarrow', 'sklearn', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "try: textvae.cli.app(['train', '--help'])\n"
        "except SystemExit: print(sorted((heavy - {'pydantic'}) & set(sys.modules)))\n"  # typer may use pydantic
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = found.stdout.splitlines()
    assert (lines[0], lines[-1]) == ("[]", "[]")


def test_help_takes_less_than_half_a_second_of_work():
    def seconds():
        before = os.times()
        subprocess.run([*PROGRAM, "--help"], check=True, stdout=subprocess.DEVNULL)
        after = os.times()
        spent = (after.children_user, after.children_system, before.children_user, before.children_system)
        return spent[0] + spent[1] - spent[2] - spent[3]

    assert min(seconds() for _ in range(3)) < 0.5


def test_the_version():
    result = call("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"textvae {textvae.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command_in_full(arguments):
    result = call(*arguments)
    assert result.exit_code == 0
    listed = re.findall(r"^  ([\w-]+) {2,}\S.*$", result.stdout.split("Commands:")[1], flags=re.MULTILINE)
    assert listed == COMMANDS
    assert "..." not in result.stdout.split("Commands:")[1]


@pytest.mark.parametrize("command", [*COMMANDS, "data list", "data describe", "data make"])
def test_every_command_has_help(command):
    result = call(*command.split(), "--help")
    assert result.exit_code == 0
    assert f"textvae {command}" in result.stdout.replace("root", "textvae")


def test_wrong_usage_is_answered_with_the_nearest_name():
    assert refused(call("trian"), "No such command 'trian'", "'train'", "--help")
    assert refused(call("train", "--dta", "x"), "No such option: --dta", "--data")
    assert refused(call("sample"), "Missing argument 'RUN'")
    assert refused(call("sample", "x", "-n", "many"), "'-n'", "integer")
    assert refused(call("data"), "Missing command")


def test_the_same_program_by_either_name():
    found = subprocess.run([*PROGRAM, "data", "describe", "nothing"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: ") and "nothing" in found.stderr


# Commands that print: help, a table, one that reads stdin first.
PRINTING = ["--help", "train --help", "--version", "data list", "data describe grammar --json", "score - --json"]


def shell(command, text=""):
    """The program run by a shell that may close its streams: exit code, stdout, stderr."""
    program = " ".join(PROGRAM)
    found = subprocess.run(
        ["sh", "-c", command.replace("textvae", program, 1)], input=text, capture_output=True, text=True
    )
    assert "Traceback" not in found.stderr and "Exception" not in found.stderr, found.stderr
    return found.returncode, found.stdout, found.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
@pytest.mark.parametrize("command", PRINTING)
def test_a_full_disk_behind_stdout_is_said(command):
    told = "error: standard output: cannot be written: No space left on device\n"
    assert shell(f"textvae {command} > /dev/full", "a b c\nd e f\n") == (1, "", told)


@pytest.mark.parametrize("command", PRINTING)
def test_a_closed_stdout_is_said(command):
    told = "error: standard output: cannot be written: Bad file descriptor\n"
    assert shell(f"textvae {command} >&-", "a b c\nd e f\n") == (1, "", told)


@pytest.mark.parametrize("command", PRINTING)
def test_a_reader_that_closes_the_pipe_is_no_failure(command):
    program = subprocess.Popen(
        [*PROGRAM, *command.split()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    program.stdout.close()
    program.stdout = None
    assert (program.communicate(b"a b c\nd e f\n")[1], program.returncode) == (b"", 0)


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(("command", "code"), [("data list", 0), ("data describe none", 2), ("score no-file", 2)])
def test_where_notes_cannot_be_printed_the_rest_is_as_ever(command, code, end):
    found = shell(f"textvae {command} {end}")
    assert found == (code, shell(f"textvae {command}")[1], "")


def test_notes_never_get_to_stdout():
    """A blank line is left out, which a note says."""
    found = shell("textvae score - --json 2>&-", "a b c\n\nd e f\n")
    assert found[0] == 0 and found[1].startswith("{") and found[1].endswith("}\n")


def test_a_closed_stdin_is_an_empty_one():
    assert shell("textvae score - <&-") == (2, "", shell("textvae score - < /dev/null")[2])
    assert shell("textvae score - <&- >&- 2>&-")[0] == 2


def test_streams_that_are_closed_do_not_become_those_of_files(tmp_path):
    """Else a line for stderr would end up in the middle of the table."""
    path = tmp_path / "made.tsv"
    assert shell(f"textvae data make {path} -n 3 <&- >&- 2>&-")[0] == 1  # its result cannot be printed
    assert len(path.read_text().splitlines()) == 4
    assert shell("textvae data list <&- 2>&-")[0] == 0


def test_a_character_that_the_encoding_lacks_is_spelled_out():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    found = subprocess.run([*PROGRAM, "data", "describe", "水"], capture_output=True, env=environment)
    assert found.returncode == 2
    assert b"\\u6c34" in found.stderr and b"Traceback" not in found.stderr


@given(st.text())
def test_plain_text_has_no_controls_and_what_is_harmless_stays(text):
    shown = plain(text)
    assert shown.isascii() or not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown)
    assert plain(shown) == shown
    if not re.search("[\\x00-\\x1f\\x7f-\\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", text):
        assert shown == text


def test_plain_spells_out_what_steers_a_terminal():
    assert plain("a\x1b[2Jb\n\tc\u202ed\x9be") == "a\\x1b[2Jb\\n\\tc\\u202ed\\x9be"
    assert plain("naïve 你好 👩‍👩‍👧 [bold]x[/bold] \\n") == "naïve 你好 👩‍👩‍👧 [bold]x[/bold] \\n"


def test_numbers_columns_and_times():
    assert [number(1234.567), number(None), number(-0.001), number(0.5, 0)] == ["1,234.57", "–", "0.00", "0"]
    assert columns([["kl", "1.00", "nats"], ["bound", "10.00", ""]]) == "kl      1.00  nats\nbound  10.00"
    assert [duration(s) for s in (0.4, 59.6, 3599.0, 86400.0)] == ["0 s", "1 min 0 s", "59 min 59 s", "24 h 0 min"]


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(WorkError, match="^kl = nan: is not finite"):
        document({"kl": float("nan")})


def test_log_records_in_words():
    record = {"step": 1200, "reconstruction": 20.0, "kl": 2.5, "bound": 22.5, "perplexity_bound": 9.9}
    record |= {"mutual_information": 1.25, "mutual_information_sentences": 20, "active_units": 3}
    assert validation_line(record) == (
        "validation at step 1,200: reconstruction 20.00 + KL 2.50 = bound 22.50 nats/sentence, "
        "perplexity 9.90 or less, MI 1.25 of at most 3.00, 3 active units"
    )
    upper = validation_line(record | {"rate_kind": "upper"})
    assert "KL 2.50 (upper) = " in upper and "MI 1.25 (upper) of at most 3.00" in upper
    training = {"kl": 2.5, "reconstruction": 20.0, "tokens_per_second": 7612.4}
    assert training_text(training) == "KL 2.50, reconstruction 20.00, 7,612 tokens/s"
    del training["kl"]
    assert training_text(training) == "reconstruction 20.00, 7,612 tokens/s"


def test_an_error_in_several_places_is_a_line_each_and_steers_nothing(monkeypatch):
    def fail(*_):
        raise WorkError("first \x1b[31m[bold]\nsecond")

    monkeypatch.setattr("textvae.text.registry.find", fail)
    result = call("data", "describe", "x")
    assert result.stderr == "error: first \\x1b[31m[bold]\nerror: second\n"
    assert (result.exit_code, result.stdout) == (1, "")


def test_ctrl_c_ends_with_a_word(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("textvae.text.registry.find", interrupt)
    result = call("data", "describe", "x")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "interrupted\n")


def test_help_of_train_says_what_every_method_is():
    listed = re.findall(r"^    ([a-z-]+) {2,}(\S.*)$", call("train", "--help").stdout, flags=re.MULTILINE)
    presets = {file.stem for file in (Path(textvae.__file__).parent / "objective" / "methods").glob("*.toml")}
    assert "vanilla" in presets
    assert {name for name, _ in listed} == presets and len(listed) == len(presets)
    assert all(len(text) < 95 and not text.endswith(".") for _, text in listed)


def test_the_documentation_of_methods_is_complete():
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    presets = {file.stem for file in (Path(textvae.__file__).parent / "objective" / "methods").glob("*.toml")}
    assert "vanilla" in presets
    assert {name for name in presets if f"`{name}`" not in page} <= {"language-model"}


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (MemoryError(), "error: out of memory: ask for less at once"),
        (RuntimeError("[enforce fail at x.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried to allocate "
                      "137438953472 bytes. Error code 12"), "error: out of memory (137 GB at once): ask for less"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"), "(2.50 GiB at once)"),
    ],
)  # fmt: skip
def test_memory_that_runs_out_is_one_message(monkeypatch, failure, said):
    def failing(*given, **options):
        raise failure

    monkeypatch.setattr("textvae.cli.training._tell_columns", failing)
    result = call("train", "--data", "grammar")
    assert refused(result, said, code=1) and len(result.stderr.splitlines()) == 1


def test_another_failure_of_the_program_is_not_taken_for_one_of_memory(monkeypatch):
    def failing(*given, **options):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("textvae.cli.training._tell_columns", failing)
    with pytest.raises(RuntimeError, match="shapes differ"):
        call("train", "--data", "grammar")


def test_a_model_that_no_machine_holds_is_refused_and_leaves_nothing(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("".join(f"sentence {n} of many words\n" for n in range(80)))
    huge = call(
        "train",
        "--data",
        text,
        "--method",
        "vanilla",
        "--set",
        "model.latent=1000000",
        "--set",
        "model.encoder.hidden=1000000",
    )
    assert refused(huge, "1000000: needs ", " TB of memory to train, this machine has ")
    assert not (tmp_path / "runs").exists()
