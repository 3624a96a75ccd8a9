"""`textvae chat`: responses of a model of dialogues, turn by turn."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from textvae.cli.decoding import decoding_options
from textvae.cli.options import RunFolder, Seed
from textvae.cli.output import note, plain, sentences
from textvae.errors import RequestError

if TYPE_CHECKING:
    from textvae.generate.decoding import Decoding
    from textvae.generate.trained import Trained

# What is told at the beginning of a conversation in a terminal.
KEYS = "/again: other responses · /2: go on with response 2 · /new: a new dialogue · /save FILE · /quit"


@decoding_options()
def chat(
    run: RunFolder,
    count: Annotated[int, typer.Option("-n", min=1, help="How many responses to each turn.")] = 3,
    *,
    decoding: "Decoding",
    seed: Seed = 0,
) -> None:
    """Talk with a model of dialogues.

    Each line of stdin is a turn; -n responses from different codes are written, and the conversation goes on with
    the first one, or with the one whose number you give. A model of source texts answers each line by itself. A
    model without a code needs --decode sample.

    \b
    Keys, each a line of its own:
      /again       other responses to the last turn
      /2           go on with response 2
      /new         begin a new dialogue
      /save FILE   write the dialogue, one turn a line
      /quit        leave, as the end of stdin does

    \b
    Examples:
      textvae chat RUN -n 5
      echo "do you like music ?" | textvae chat RUN --decode sample
    """  # noqa: D301
    from textvae.generate.trained import load

    trained = load(run)
    trained.context("a")  # refuses a model that has no contexts, before a line is read
    if trained.model.prior is None and decoding.certain and count > 1:
        note(
            f"note: without a code there is one response by {decoding.name} decoding; --decode sample gives others"
        )
    if sys.stdin is None:
        raise RequestError("stdin: is closed; give turns on it, one a line")
    if sys.stdin.isatty():
        note(KEYS)
    dialogue = Dialogue(trained, count, decoding, seed)
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            turn = line.decode().strip()
        except UnicodeDecodeError:
            raise RequestError(f"stdin:{number}: is not UTF-8; write the turn again") from None
        if not turn:
            continue
        if turn == "/quit":
            return
        if written := list(dialogue.lines(turn)):
            sentences(written)


class Dialogue:
    """A conversation: its turns so far, and the responses to the last one."""

    def __init__(self, trained: "Trained", count: int, decoding: "Decoding", seed: int) -> None:
        self.trained, self.count, self.decoding, self.seed = trained, count, decoding, seed
        self.turns: list[str] = []
        self.responses: list[str] = []
        self.chosen = 0
        self.drawn = 0

    def lines(self, turn: str) -> Iterator[str]:
        """Yield what is written for a line that was given: responses, or what a key has done."""
        name, _, rest = turn.partition(" ")
        if turn == "/new":
            self.turns, self.responses = [], []
            return
        if name == "/save":
            self._save(rest.strip())
            return
        if name.startswith("/") and name[1:].isdecimal():
            self._choose(int(name[1:]))
            return
        if name == "/again":
            if not self.turns:
                note("note: there is no turn yet to respond to")
                return
        elif name.startswith("/"):
            note(f"note: {plain(name)} is no key; {KEYS}")
            return
        else:
            self._say(turn)
        self.drawn += 1
        self.responses, self.chosen = self._responses(), 0
        yield from (f"{number}  {text}" for number, text in enumerate(self.responses, 1))

    def _say(self, turn: str) -> None:
        """Add the chosen response, if there is one, and a turn."""
        if self.trained.run.settings.data.dialogue is None:
            self.turns = [turn]
            return
        if self.responses and self.responses[self.chosen].strip():
            self.turns.append(self.responses[self.chosen])
        self.turns.append(turn)

    def _responses(self) -> list[str]:
        """Return responses to the dialogue so far; those of each turn have other random numbers."""
        given = self.trained.context(self.turns)
        begin = (self.drawn - 1) * self.count
        return self.trained.sample(self.count, self.seed, self.decoding, begin, given)

    def _choose(self, number: int) -> None:
        if not 1 <= number <= len(self.responses):
            note(f"note: there are {len(self.responses)} responses; give a number of one")
            return
        self.chosen = number - 1

    def _save(self, name: str) -> None:
        from textvae.files import write_text

        if not name:
            note("note: /save FILE: name a file")
            return
        last = [self.responses[self.chosen]] if self.responses else []
        write_text(Path(name), "".join(f"{turn}\n" for turn in [*self.turns, *last]))
        note(f"written: {plain(name)}")
