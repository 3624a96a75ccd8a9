"""One grammar of `--decode`, the same in every command that has the option."""

import json

import pytest
from typer.main import get_command

from textvae.cli import app
from textvae.cli.decoding import COMMON, NUMBERS, by_name, decodings_of
from textvae.errors import RequestError
from textvae.generate.decoding import Decoding
from textvae.generate.ways import WAYS, spelled

from .conftest import call, refused

NONE = dict.fromkeys(NUMBERS) | {name: default for name, (_, default) in COMMON.items()}
ACCEPTED = ["greedy", "sample", "beam:5", "sample:0.7", "top-k:15", "nucleus:0.9"]
EQUAL = [
    (["nucleus:0.9"], ["nucleus", "--top-p", "0.9"]),
    (["top-k:15"], ["top-k", "--top-k", "15"]),
    (["beam:5"], ["beam", "--beam", "5"]),
    (["sample:0.7"], ["sample", "--temperature", "0.7"]),
    (["sample:0.7"], ["sample:0.7", "--temperature", "0.7"]),
]
REFUSED = {
    ("nucleus",): "--decode nucleus: give its number, for example nucleus:0.9",
    ("nucleus:",): "--decode nucleus:: '' is no number; write for example nucleus:0.9",
    ("beam",): "--decode beam: give its number, for example beam:5",
    ("top-k",): "--decode top-k: give its number, for example top-k:15",
    ("greedy:3",): "--decode greedy:3: greedy decoding takes no number",
    ("top-k:many",): "--decode top-k:many: 'many' is no whole number; write for example top-k:15",
    ("beam:0.5",): "--decode beam:0.5: '0.5' is no whole number; write for example beam:5",
    ("nukleus:0.9",): "decoding 'nukleus': unknown; did you mean 'nucleus'?",
    ("",): f"--decode: names no way of decoding; known: {WAYS}",
    (":5",): f"--decode :5: names no way of decoding; known: {WAYS}",
    ("nucleus:1.5",): "top_p = 1.5: must be in (0, 1]",
    ("sample:0",): "temperature = 0.0: must be 0.001 or more; the limit at 0 is greedy decoding",
    ("top-k:0",): "top_k = 0: top-k decoding needs 1 or more",
    ("nucleus:0.9", "--top-p", "0.8"): (
        "--decode nucleus:0.9: --top-p 0.8 says otherwise; leave out one of the two"
    ),
    ("greedy", "--top-p", "0.9"): "--top-p 0.9: is for --decode nucleus, and --decode is greedy",
    ("greedy", "--temperature", "0.7"): (
        "--temperature 0.7: is for --decode sample, top-k or nucleus, and --decode is greedy"
    ),
}


def commands(group=None, path=()):
    """Yield every command of the program that has `--decode`, and the words that call it."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        elif any("--decode" in option.opts for option in command.params):
            yield (*path, name), command


def asked(path, command, decode):
    """Call a command with what it needs, a run that there is not, and a way of decoding; what it says."""
    words = [*path]
    for option in command.params:
        if option.required:
            words += ["nowhere"] if option.param_type_name == "argument" else [option.opts[0], "nowhere"]
        words += ["--all"] if "--all" in option.opts else []  # of evaluate, which decodes with it alone
    done = call(*words, "--decode", *decode)
    assert refused(done)
    return done.stderr


COMMANDS = dict(commands())


def test_the_commands_that_decode():
    assert {("sample",), ("fce",), ("homotopy",), ("evaluate",), ("interpolate",), ("decode",)} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_the_same_grammar(path):
    usual = asked(path, COMMANDS[path], ["greedy"])
    for way in [*([way] for way in ACCEPTED), *(other for _, other in EQUAL)]:
        assert asked(path, COMMANDS[path], way) == usual, way
    for way, message in REFUSED.items():
        assert asked(path, COMMANDS[path], way) == f"error: {message}\n"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_several_ways_are_for_commands_that_take_several(path):
    command = COMMANDS[path]
    several = next(option.multiple for option in command.params if "--decode" in option.opts)
    usual = asked(path, command, ["greedy"])
    comma = asked(path, command, ["greedy, nucleus:0.9"])
    twice = asked(path, command, ["greedy", "--decode", "nucleus", "--top-p", "0.9"])
    if several:
        assert comma == twice == usual
    else:
        assert "names several ways of decoding; give one" in comma
        assert "is given 2 times; it takes one value" in twice


def test_a_number_may_stand_in_either_place():
    for (text,), (name, option, value) in EQUAL[:4]:
        field = option[2:].replace("-", "_")
        number = type(getattr(Decoding(), field))(value)
        expected = Decoding(name, **{field: number})
        assert decodings_of([text], NONE) == decodings_of([name], NONE | {field: number}) == [expected]
        assert spelled(expected) == text
    assert spelled(Decoding()) == "greedy" and spelled(Decoding("sample")) == "sample"


def test_an_option_is_for_every_way_that_has_a_use_for_it():
    found = decodings_of(["greedy", "sample", "top-k:3"], NONE | {"temperature": 0.5, "max_length": 4})
    assert found == [
        Decoding(max_length=4),
        Decoding("sample", 0.5, max_length=4),
        Decoding("top-k", 0.5, 3, max_length=4),
    ]
    with pytest.raises(RequestError, match="^--temperature 0.5: is for --decode sample, top-k or nucleus"):
        decodings_of(["greedy", "beam:2"], NONE | {"temperature": 0.5})


def test_ways_of_one_name_are_told_apart_by_their_numbers():
    some = [Decoding(), Decoding("nucleus", top_p=0.5)]
    assert by_name([*some, Decoding()]) == {"greedy": some[0], "nucleus": some[1]}
    other = Decoding("nucleus", top_p=0.9)
    assert by_name([*some, other]) == {"greedy": some[0], "nucleus:0.5": some[1], "nucleus:0.9": other}


def test_the_texts_are_the_same_wherever_the_number_stands(run):
    one, other = (
        call("sample", run, "-n", 5, "--seed", 2, "--json", "--decode", *way).stdout
        for way in (["nucleus:0.8"], ["nucleus", "--top-p", 0.8])
    )
    assert one == other and json.loads(one)["decoding"]["top_p"] == 0.8
