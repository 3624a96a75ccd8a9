"""Dialogues and pairs of texts as units: sentences that belong together, each with what precedes it."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from textvae.errors import RequestError
from textvae.text.readers import Sentence, names_in, one_line
from textvae.text.tables import Turn, known_as

# Names of the columns of a table of dialogues; compared in lower case, without `_`, `-` and spaces.
NAMES: Mapping[str, tuple[str, ...]] = {
    "dialogue": (
        *("dialogue", "dialog", "conversation", "dialogueid", "dialogid", "conversationid"),
        *("conv", "convid", "session", "sessionid", "thread", "threadid"),
    ),
    "speaker": ("speaker", "speakerid", "caller", "from", "sender", "author", "user", "role"),
    "turn": ("turn", "turnindex", "turnid", "turnnumber", "utteranceindex", "utterancenumber"),
}


class DialogueColumns(NamedTuple):
    """Columns of a table of dialogues, by name or position; None is found by a common name."""

    dialogue: str | int | None = None
    speaker: str | int | None = None
    turn: str | int | None = None


class Unit(NamedTuple):
    """Sentences that share a split: a dialogue, a source with its target, or one sentence.

    Units with the same `key` share a split too.
    """

    key: str
    sentences: tuple[Sentence, ...]

    @property
    def alone(self) -> bool:
        """True for a dialogue of one utterance: there is no response in it."""
        return len(self.sentences) == 1 and self.sentences[0].turn is not None


def known_columns(columns: DialogueColumns, names: Sequence[str], place: str) -> tuple[str | int, ...]:
    """Return the columns of dialogue, speaker and, if there is one, turn, in a table with these names.

    Columns that are not given are found by common names (`NAMES`); the column of turns is optional.

    Args:
        columns: What is given of them.
        names: Names of the table's columns.
        place: Begin of messages.

    Raises:
        RequestError: If there is no column of dialogues or of speakers, or two have common names.
    """
    chosen = list[str | int]()
    by_position = any(isinstance(one, int) or (one or "").isdecimal() for one in columns)
    for role, given in columns._asdict().items():
        if given is not None:
            chosen.append(given)
            continue
        near = [] if by_position else [name for name in names if known_as(name) in NAMES[role]]
        if len(near) > 1:
            both = " and ".join(map(repr, near[:2]))
            raise RequestError(f"{place}: which column is the {role}, {both}? Name it (data.dialogue.{role})")
        if not near and role != "turn":
            listed = ", ".join(repr(name[:40]) for name in names[:20]) or "none"
            raise RequestError(
                f"{place}: no column has a known name of a {role}; name it (data.dialogue.{role}), by position "
                f"if there is no header. The columns are {listed}"
            )
        chosen += near
    return tuple(chosen)


def columns_in(path: Path | str, columns: DialogueColumns) -> tuple[str | int, ...]:
    """Return the columns of dialogue, speaker and turn of a file (see `known_columns`).

    Raises:
        RequestError: As `known_columns`, and for plain text.
    """
    return known_columns(columns, names_in(path), f"{path}:1")


def dialogues(sentences: Iterable[Sentence], name: str) -> Iterator[Unit]:
    """Yield the dialogues of a source of utterances, whose marks are dialogue, speaker and, perhaps, turn.

    Speakers are numbered within a dialogue, by their first utterance. Equal dialogues have equal keys.

    Raises:
        RequestError: With the line, for a blank dialogue or speaker, a dialogue whose rows are not together, and
            turns that do not rise; at the end, if no dialogue has a response.
    """
    ended: dict[str, int] = {}  # line of the last utterance of each dialogue
    own = list[Sentence]()
    speakers = dict[str, int]()
    dialogue, before, responses = "", -math.inf, 0
    for sentence in sentences:
        place = f"{name}:{sentence.line}"
        other, speaker, *turns = sentence.marks
        for role, cell in (("dialogue", other), ("speaker", speaker)):
            if not cell:
                raise RequestError(f"{place}: the {role} is blank; name one for each utterance, or remove the row")
        if own and other != dialogue:
            ended[dialogue] = own[-1].line
            yield _dialogue(own)
            own, speakers, before = [], {}, -math.inf
        if other in ended:
            raise RequestError(
                f"{place}: dialogue {other[:40]!r} ended on line {ended[other]}, and other rows follow it; sort "
                "the rows by dialogue and turn"
            )
        dialogue = other
        if turns:
            before = _later(place, turns[0], before, dialogue)
        responses += bool(own)
        turn = Turn(len(own), speakers.setdefault(speaker, len(speakers)))
        own.append(sentence._replace(marks=(), turn=turn))
    if own:
        yield _dialogue(own)
    if not responses:
        raise RequestError(
            f"{name}: no dialogue has two utterances, so there is no response; name the column that is the same "
            "for all utterances of a dialogue (data.dialogue.dialogue)"
        )


def _dialogue(sentences: Sequence[Sentence]) -> Unit:
    return Unit("\n".join(sentence.text for sentence in sentences), tuple(sentences))


def _later(place: str, turn: str, before: float, dialogue: str) -> float:
    """Return the number of a turn.

    Raises:
        RequestError: If it is no number, or not above the one before it.
    """
    try:
        number = float(turn)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise RequestError(f"{place}: turn {turn[:40]!r} is not a number; name another column (data.dialogue.turn)")
    if number <= before:
        what = "comes twice" if number == before else f"comes after turn {before:g}"
        raise RequestError(
            f"{place}: turn {turn} of dialogue {dialogue[:40]!r} {what}; sort the rows by dialogue and turn, and "
            "number utterances"
        )
    return number


def pairs(sentences: Iterable[Sentence]) -> Iterator[Unit]:
    """Yield each sentence after its source, which is its only mark, as a dialogue of two.

    Targets of one source have the same key. Where the source is blank, the sentence is too.
    """
    for sentence in sentences:
        source = one_line(sentence.marks[0])
        if not source:
            yield Unit("", (Sentence("", None, sentence.line),))
            continue
        first = sentence._replace(text=source, marks=(), turn=Turn(0, 0))
        yield Unit(source, (first, sentence._replace(marks=(), turn=Turn(1, 1))))
