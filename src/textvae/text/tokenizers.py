"""Tokenizers: vocabularies of words, characters and byte pairs, each stored as one Hugging Face JSON file."""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, SupportsInt

from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as HuggingFaceTokenizer

from textvae.errors import RequestError, did_you_mean
from textvae.files import replacing
from textvae.text import words
from textvae.text.cutting import (
    CHARACTERS,
    LONGEST_WORD,
    PART,
    RESERVED,
    SPACE,
    SPECIALS,
    Counted,
    chunks,
    in_parts,
)
from textvae.text.readers import require_texts
from textvae.text.vocabularies import BYTES, byte_pairs, characters, most_frequent

PAD, UNK, BOS, EOS = 0, 1, 2, 3
OF_WORDS = ("word", "words")
NAMES = (*OF_WORDS, "character", "bpe")

# Words that must never be looked up, as whole words. White space is spelled out as the set that WhitespaceSplit
# uses, because \s of the regex engine is a different set.
_RESERVED = rf"(?i)(?<![^{SPACE}])(?:{RESERVED})(?![^{SPACE}])"


class Tokenizer:
    """A vocabulary and the rules that map sentences to its ids, stored as one `tokenizer.json`.

    `word` splits at white space, `words` also splits punctuation and contractions from words and joins them again
    (`text.words`), `character` uses every code point (spaces too), and `bpe` merges bytes and is lossless. Ids 0 to
    3 are `<pad>`, `<unk>`, `<bos>`, `<eos>` in all of them, and no text produces 0, 2 or 3: as whole words the
    literal spellings become the unknown word, elsewhere they are spelled out. The spellings of unknown words in
    corpora (`<unk>`, `_UNK`, `[UNK]`, in any case) also become the unknown word, in tokenizers of words only.

    With `right_to_left` the ids of a text are reversed, and decoding restores the order: for models that generate
    the last word first. The file is the same in both directions, so the caller that loads it gives the direction.

    References:
        Bowman et al. 2016, section 5: shorter dependencies for the code to be learned by.

    >>> words = Tokenizer.train("word", ["a cat", "a dog"], vocabulary=None, min_count=1)
    >>> words.tokens
    ['<pad>', '<unk>', '<bos>', '<eos>', 'a', 'cat', 'dog']
    >>> words.encode(["a dog <eos>", "a bird"])
    [[4, 6, 1], [4, 1]]
    >>> words.decode([BOS, 4, 6, EOS, 5])
    'a dog'
    """

    def __init__(self, inner: HuggingFaceTokenizer, right_to_left: bool = False) -> None:
        self._inner = inner
        self.right_to_left = right_to_left
        self.name = _name(json.loads(inner.to_str()))
        self.of_words = self.name in OF_WORDS
        ids = inner.get_vocab()
        self.tokens: list[str] = sorted(ids, key=ids.__getitem__)
        self._longest = LONGEST_WORD if self.name == "words" else max(LONGEST_WORD, *map(len, self.tokens))

    @classmethod
    def train(
        cls,
        name: str,
        sentences: Iterable[str],
        vocabulary: int | None,
        min_count: int,
        lowercase: bool = False,
        right_to_left: bool = False,
    ) -> "Tokenizer":
        """Learn a vocabulary from sentences, which are read once and not kept.

        `vocabulary` limits the learned entries, the four special ones not counted; the most frequent are kept, ties
        in alphabetical order. Entries seen fewer than `min_count` times are left out.

        Raises:
            RequestError: For an unknown name, an impossible size, and an empty vocabulary.
        """
        _check(name, vocabulary, min_count)
        inner = _pipeline(name, lowercase)
        counted = Counted(name, sentences)
        merges: list[tuple[str, str]] = []
        if name in OF_WORDS:
            marked = map(_marked, counted) if name == "words" else counted
            learned = most_frequent(inner, marked, vocabulary, min_count)
        elif name == "character":
            learned = characters(inner, counted, vocabulary, min_count)
        else:
            learned, merges = byte_pairs(inner, counted, vocabulary or BYTES, min_count)
        if not counted.seen:
            raise RequestError("data: there is no sentence to learn a vocabulary from")
        if not learned:
            raise RequestError(
                f"data.tokenizer.min_count: {min_count} leaves a vocabulary of nothing but rare words "
                f"({counted.seen} sentences read, no {name} seen that often); lower it to 1 or give more text"
            )
        ids = {token: i for i, token in enumerate((*SPECIALS, *learned))}
        inner.model = _model(name, ids, merges)
        return cls(inner, right_to_left)

    @classmethod
    def of(cls, name: str, entries: Iterable[str]) -> "Tokenizer":
        """Return a tokenizer of words or characters that has these entries after the special ones."""
        inner = _pipeline(name, False)
        inner.model = _model(name, {token: i for i, token in enumerate((*SPECIALS, *entries))}, [])
        return cls(inner)

    @classmethod
    def load(cls, path: Path | str, right_to_left: bool = False) -> "Tokenizer":
        """Read a `tokenizer.json` that `save` wrote; the file does not record the direction.

        Raises:
            RequestError: If it is missing, truncated, or not a tokenizer of this library.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise RequestError(f"{path}: cannot read the tokenizer: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise RequestError(f"{path}: not a tokenizer file: not UTF-8 text") from error
        try:
            inner = HuggingFaceTokenizer.from_str(text)
        except Exception as error:  # the library raises plain Exception for every kind of damage
            raise RequestError(f"{path}: truncated, or not a tokenizer file ({error})") from error
        if reason := _foreign(inner):
            raise RequestError(f"{path}: not a tokenizer of textvae: {reason}; train one or give a run's")
        return cls(inner, right_to_left)

    def save(self, path: Path | str) -> None:
        """Write the tokenizer as one JSON file, atomically; WorkError if it cannot be written."""
        with replacing(path) as file:
            file.write(self._inner.to_str(pretty=True).encode())

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the token ids of each text in the model's order, without begin and end marks.

        A word of more than `LONGEST_WORD` characters is the unknown word; byte pairs are not merged across its
        pieces of that length.

        Raises:
            RequestError: For an argument that is not a list of strings, and for a text that is not valid Unicode.
        """
        encoded: list[list[int]] = []
        for start, chunk in chunks(require_texts(texts)):
            try:
                if all(len(text) <= LONGEST_WORD for text in chunk):
                    encoded += self._ids(chunk)
                else:
                    encoded += map(self._ids_of_parts, chunk)
            except (TypeError, UnicodeEncodeError) as error:
                raise RequestError(_not_unicode(chunk, start)) from error
        return [ids[::-1] for ids in encoded] if self.right_to_left else encoded

    def encode_lines(self, texts: Iterable[str]) -> list[list[int]]:
        """Return the token ids of pieces of running text: each line as `encode` gives it, end marks between them.

        Raises:
            RequestError: As `encode`.
        """
        texts = require_texts(texts)
        self.encode(texts)  # refuses a text that is not Unicode, by its number
        lines = [text.split("\n") for text in texts]
        encoded = iter(self.encode([line for text in lines for line in text]))
        pieces: list[list[int]] = []
        for text in lines:
            ids = [i for line in islice(encoded, len(text)) for i in (EOS, *line)]
            pieces.append(ids[1:])
        return pieces

    def beginning(self, ids: list[int], tokens: int) -> list[int]:
        """Return the ids of a text's first `tokens` tokens, given the ids of the whole text from `encode`."""
        return ids[-tokens:] if self.right_to_left else ids[:tokens]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """Return the text of one sequence of ids up to its first end mark; padding and begin marks are dropped.

        Raises:
            RequestError: For an id outside the vocabulary.
        """
        return self._inner.decode(self._text_ids(ids), skip_special_tokens=False)

    def decode_batch(self, batch: Iterable[Iterable[SupportsInt]]) -> list[str]:
        """Return the texts of several sequences of ids, each as `decode` gives it."""
        rows = [self._text_ids(ids) for ids in batch]
        return self._inner.decode_batch(rows, skip_special_tokens=False)

    def decode_lines(self, ids: Iterable[SupportsInt]) -> str:
        """Return the text of a piece of running text, as `decode`, with a line break for each end mark."""
        lines: list[list[int]] = [[]]
        for i in ids:
            if int(i) == EOS:
                lines.append([])
            else:
                lines[-1].append(int(i))
        return "\n".join(self.decode_batch(lines))

    def normalise(self, text: str) -> str:
        """Return the part of a text that encoding preserves if all of it is in the vocabulary.

        White space between words becomes single spaces, and reserved words become `<unk>`; the text is in lower
        case if the tokenizer was trained so. Character and byte-pair tokenizers otherwise preserve the text.
        """
        return "".join(self._normalised(text)) if self.name == "bpe" else self.joined(self.pieces(text))

    def pieces(self, text: str) -> list[str]:
        """Return what each id of a text stands for, in reading order and whether or not it is in the vocabulary.

        Byte pairs, which depend on the vocabulary, have none.
        """
        parts = self._normalised(text)
        if self.name == "character":
            return list("".join(parts))
        return [word for part in parts for word, _ in self._inner.pre_tokenizer.pre_tokenize_str(part)]

    def joined(self, pieces: Sequence[str]) -> str:
        """Return the text of pieces in reading order, in the vocabulary or not."""
        decoder = self._inner.decoder
        return " ".join(pieces) if decoder is None else decoder.decode(list(pieces))

    def _normalised(self, text: str) -> Iterator[str]:
        """Yield the parts of a text in the form in which they are looked up."""
        parts = in_parts(self.name, text, self._longest)
        if self.name == "words":
            parts = map(_marked, parts)
        return parts if self._inner.normalizer is None else map(self._inner.normalizer.normalize_str, parts)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if self.name == "words":
            texts = list(map(_marked, texts))
        encodings = self._inner.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def _ids_of_parts(self, text: str) -> list[int]:
        """Return the token ids of a long text, in reading order."""
        parts = in_parts(self.name, text, self._longest)
        ids: list[int] = []
        while some := list(islice(parts, CHARACTERS // PART)):
            ids.extend(chain.from_iterable(self._ids(some)))
        return ids

    def _text_ids(self, ids: Iterable[SupportsInt]) -> list[int]:
        values: list[int] = ids.tolist() if hasattr(ids, "tolist") else [int(i) for i in ids]
        if EOS in values:
            values = values[: values.index(EOS)]
        if values and not 0 <= min(values) <= max(values) < len(self):
            wrong = next(i for i in values if not 0 <= i < len(self))
            raise RequestError(f"decode: id {wrong} is outside the vocabulary of {len(self)}")
        shown = [i for i in values if i != PAD and i != BOS]
        return shown[::-1] if self.right_to_left else shown


def _check(name: str, vocabulary: int | None, min_count: int) -> None:
    if name not in NAMES:
        hint = did_you_mean(name, NAMES, "")
        raise RequestError(f"data.tokenizer.name: {name!r} is not one of {', '.join(NAMES)}{hint}")
    if min_count < 1:
        raise RequestError(f"data.tokenizer.min_count: {min_count} is too small; 1 keeps everything")
    if name == "bpe" and (vocabulary is None or vocabulary < BYTES):
        raise RequestError(f"data.tokenizer.vocabulary: bpe needs {BYTES} or more, not {vocabulary}")
    if vocabulary is not None and vocabulary < 1:
        raise RequestError(f"data.tokenizer.vocabulary: {vocabulary} is too small; give 1 or more, or leave it out")


def _pipeline(name: str, lowercase: bool) -> HuggingFaceTokenizer:
    inner = HuggingFaceTokenizer(_model(name, {}, []))
    steps: list[normalizers.Normalizer] = [normalizers.Lowercase()] if lowercase else []
    if name in OF_WORDS:
        steps.append(
            normalizers.Replace(Regex(_RESERVED), SPECIALS[UNK])
        )  # last, to act on the words that are looked up
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        if name == "words":
            inner.decoder = words.decoder()
    elif name == "character":
        inner.decoder = decoders.Fuse()
    else:
        # The usual pattern separates letters from punctuation, so no merge can ever spell "<eos>".
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        inner.decoder = decoders.ByteLevel()
    if steps:
        inner.normalizer = normalizers.Sequence(steps) if len(steps) > 1 else steps[0]
    return inner


def _marked(text: str) -> str:
    """Return the marked pieces of a text, separated by spaces."""
    return " ".join(words.split(text))


def _model(name: str, ids: dict[str, int], merges: list[tuple[str, str]]) -> models.Model:
    if name in OF_WORDS:
        return models.WordLevel(ids, SPECIALS[UNK])
    if name == "character":
        # Byte pairs without merges: one token per code point, no pattern to run, and entries of several characters
        # (only the special ones) cannot be reached from text.
        return models.BPE(ids, merges, unk_token=SPECIALS[UNK])
    return models.BPE(ids, merges)


def _name(data: dict[str, Any]) -> str:
    if data["model"]["type"] == "WordLevel":
        return "words" if data["decoder"] else "word"
    return "bpe" if data["pre_tokenizer"] else "character"


def _foreign(inner: HuggingFaceTokenizer) -> str | None:
    """Return the reason why a loaded tokenizer may not keep text and control tokens apart, or None."""
    ids = inner.get_vocab()
    if any(ids.get(token) != i for i, token in enumerate(SPECIALS)):
        return f"ids 0 to 3 are not {', '.join(SPECIALS)}"
    if sorted(ids.values()) != list(range(len(ids))):  # the library writes all ids up to the largest
        return "its ids are not 0, 1, 2, ..."
    data = json.loads(inner.to_str())
    model = data["model"]
    if model["type"] not in ("WordLevel", "BPE"):
        return f"its model is {model['type']}"
    own = json.loads(_pipeline(_name(data), lowercase=False).to_str())
    for step in ("pre_tokenizer", "decoder"):
        if data[step] != own[step]:
            return f"its {step} is not that of a {_name(data)} tokenizer"
    for name in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback"):
        if model.get(name) != own["model"].get(name):
            return f"its model has {name} = {model.get(name)!r:.40}"
    if data["added_tokens"] or data["post_processor"] or data["truncation"] or data["padding"]:
        return "it adds, cuts or pads tokens"
    if model["type"] == "BPE":
        if model["dropout"] or model["ignore_merges"]:
            return "its merges are not applied plainly"
        if any("".join(pair) in SPECIALS for pair in model["merges"]):
            return "its merges spell a special token"
    try:
        probe = inner.encode(" ".join((*SPECIALS, "x<eos>")), add_special_tokens=False).ids
        inner.decode(range(len(ids)), skip_special_tokens=False)
    except Exception as error:  # the library raises plain Exception if its parts do not fit together
        return f"it cannot read text: {error}"
    return "it takes text for special tokens" if {PAD, BOS, EOS} & set(probe) else None


def _not_unicode(texts: list[str], start: int) -> str:
    for i, text in enumerate(texts, start):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"encode: text {i} is not valid Unicode: a lone surrogate at character {error.start}"
    return "encode: a text could not be read"
