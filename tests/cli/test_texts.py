import pytest
import typer

from textvae.cli import app
from textvae.cli.output import Command

from .conftest import call, refused

# Every command that reads sentences, with FILE in place of where they come from.
READERS = {
    "encode": ("encode", "RUN", "--file", "FILE", "--out", "codes.npy"),
    "reconstruct": ("reconstruct", "RUN", "--file", "FILE", "--json"),
    "neighbours": ("neighbours", "RUN", "the food is good .", "--file", "FILE", "-n", 3),
    "transfer": ("transfer", "RUN", "--file", "FILE", "--from", "the food is bad .", "--to", "a food was good ."),
    "impute": ("impute", "RUN", "--file", "FILE", "--last", 0.2, "--beam", 2, "--json"),
    "score": ("score", "FILE", "--metrics", "length,vocabulary,self-bleu-2"),
}
DATA = {
    "separators": "the food\u2028was good .\na phone\u2029is bad .\nthis\x85coffee was good .\n",
    "controls": "the food\x0cwas good .\na phone\x0bis bad .\nthis\x1ccoffee was good .\n",
    "CRLF": "\ufeffthe food was good .\r\n\r\na phone is bad .\r\nthis coffee was good .",
}


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("command", READERS)
def test_stdin_is_read_as_a_file(run, tmp_path, command, data):
    text = DATA[data].encode()
    (tmp_path / "a.txt").write_bytes(text)

    def output(file, **options):
        result = call(*({"RUN": run, "FILE": file}.get(one, one) for one in READERS[command]), **options)
        assert result.exit_code == 0, result.stderr
        codes = (tmp_path / "codes.npy").read_bytes() if command == "encode" else b""
        return result.stdout.replace("a.txt", "stdin"), codes

    assert output("a.txt") == output("-", input=text)


@pytest.mark.parametrize("command", READERS)
def test_stdin_that_is_no_text_is_refused(run, command):
    arguments = [{"RUN": run, "FILE": "-"}.get(one, one) for one in READERS[command]]
    assert refused(call(*arguments, input=b"fine one .\na\0b\n"), "stdin:2: binary data, not text (NUL at byte 12)")
    assert refused(call(*arguments, input=b""), "stdin: holds no sentence")


def commands(group):
    for command in group.commands.values():
        yield from commands(command) if hasattr(command, "commands") else [command]


def test_no_option_of_one_value_may_be_given_twice():
    found = list(commands(typer.main.get_command(app)))
    assert len(found) > 20
    for command in found:
        assert isinstance(command, Command), command.name
        for option in command.params:
            if option.param_type_name != "option" or option.multiple or option.is_eager:
                continue
            once = [option.opts[0]] if option.is_flag else [option.opts[0], "1"]
            with pytest.raises(type(typer.BadParameter("")).__base__, match="is given 2 times; it takes one value"):
                command.make_context(command.name, [*once, *once])


def test_a_repeated_option_is_one_message(reviews):
    data = call("train", "--train", reviews, "--train", reviews)
    assert refused(data, "Option '--train' is given 2 times; it takes one value")
    assert refused(call("score", reviews, "--seed", 1, "--seed=1"), "Option '--seed' is given 2 times")


def test_rows_without_a_path_or_a_gap_are_named_and_left_out(run, tmp_path):
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("a\tb\nthe food is good .\ta phone was bad .\nthe food .\tthe food .\n\tthis .\n")
    result = call("interpolate", run, "--pairs", pairs, "--steps", 2)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    assert f"left out: {pairs}:3: both ends are 'the food .'; give two different sentences\n" in result.stderr
    assert f"left out: {pairs}:4: has one sentence; give two\n" in result.stderr
    assert f"{pairs}: 2 of 3 rows left out; --strict refuses them\n" in result.stderr
    strict = call("interpolate", run, "--pairs", pairs, "--strict")
    assert strict.exit_code == 2 and f"error: {pairs}:3: both ends are" in strict.stderr

    gaps = tmp_path / "gaps.txt"
    gaps.write_text("the ___ is good .\n\nthe food is good .\n___\na phone was ___ .\n")
    result = call("impute", run, "--file", gaps, "--beam", 2)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 2
    assert f"left out: {gaps}:3: has no gap" in result.stderr
    assert f"left out: {gaps}:4: has only gaps" in result.stderr
    assert f"{gaps}: 2 of 4 rows left out" in result.stderr
    assert call("impute", run, "--file", gaps, "--strict").exit_code == 2
    gaps.write_text("the food is good .\n\nthe food\n")
    none = call("impute", run, "--file", gaps)
    assert none.exit_code == 2 and f"error: {gaps}:1: has no gap" in none.stderr
    assert "none of the 2 rows can be used" in none.stderr
    assert refused(call("impute", run, "the food"), "texts[0]: has no gap")


@pytest.mark.parametrize(
    "command",
    [
        ("probe", "RUN", "--file", "-", "--label", "stars"),
        ("transfer", "RUN", "a", "--labels", "-", "--label", "stars", "--from-label", "1", "--to-label", "2"),
        ("interpolate", "RUN", "--pairs", "-"),
        ("syntax", "RUN", "--pairs", "-"),
    ],
)
def test_columns_of_stdin_are_refused(run, command):
    result = call(*(run if one == "RUN" else one for one in command), input=b"1\tbad\n2\tgood\n")
    assert refused(result, "-: stdin is plain text, which has no columns; save it to a .tsv")


@pytest.mark.parametrize(
    "command", [("encode", "NAME", "fine .", "--out", "a.npy"), ("decode", "RUN", "--codes", "NAME")]
)
def test_a_name_that_no_file_can_have_is_one_message(run, command):
    given = {"RUN": run, "NAME": "a" * 300 + ".npy"}
    assert refused(call(*(given.get(one, one) for one in command)), "cannot be used: File name too long")
