"""Fonts of figures: of characters that matplotlib's own font lacks, those of the system."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

OWN = "DejaVu Sans"
# Fonts of Chinese, Japanese and Korean, in the order in which they are tried.
CJK = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
)


def families(texts: Iterable[str]) -> list[str]:
    """Return the fonts that draw texts, matplotlib's own first; warn of characters that none of them has."""
    lacking = {character for text in texts for character in text if not character.isspace()} - characters(OWN)
    chosen = [OWN]
    for name in CJK:
        if lacking and (covered := lacking & characters(name)):
            chosen.append(name)
            lacking -= covered
    if lacking:
        some = " ".join(sorted(lacking)[:5])
        warnings.warn(
            f"no font of this system has {some}: figures show boxes instead; install one, such as the package "
            "fonts-noto-cjk for Chinese, Japanese and Korean",
            stacklevel=2,
        )
    return chosen


@lru_cache
def characters(name: str) -> frozenset[str]:
    """Return the characters of a font of the system; none if it is not there."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    paths = [font.fname for font in fontManager.ttflist if font.name == name]
    return frozenset(map(chr, FT2Font(paths[0]).get_charmap())) if paths else frozenset()


@contextmanager
def without_warnings() -> Iterator[None]:
    """Leave out matplotlib's warnings of missing characters, one for each, which `families` has warned of once."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield
