"""The split of a sentence of a single file: trained on, or held out."""

import hashlib


def assigned_split(text: str, valid: float, test: float, seed: int) -> str:
    """Return the split of a sentence, by a keyed hash of its words: `train`, `valid` or `test`.

    `valid` and `test` are the shares held out. Sentences equal apart from case and spacing share a split, which
    depends neither on their order, nor on the other sentences, nor on the tokenizer.
    """
    digest = hashlib.blake2b(split_words(text), digest_size=8, key=str(seed).encode()[:64]).digest()
    at = int.from_bytes(digest, "big") / 2**64
    return "test" if at < test else "valid" if at < test + valid else "train"


def split_words(text: str) -> bytes:
    """Return the words of a sentence in lower case, which determine its split."""
    return " ".join(text.lower().split()).encode(errors="surrogatepass")
