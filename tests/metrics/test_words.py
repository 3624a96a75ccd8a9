import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from textvae.errors import RequestError
from textvae.metrics import words
from textvae.metrics.words import tokenized


def test_words_and_characters_by_hand():
    assert list(tokenized(["The  food\u3000was <unk> .", " "])) == [["The", "food", "was", "<unk>", "."], []]
    assert list(tokenized(["Ab <unk>c"], "characters", lowercase=True)) == [["a", "b", "<unk>", "c"]]
    assert list(tokenized(["很好<unk>吃 。"], "characters")) == [["很", "好", "<unk>", "吃", "。"]]
    raw = ['She didn\'t say "<unk>", did she?', "很好 吃。", ""]
    expected = ['She did n\'t say " <unk> " , did she ?'.split(), ["很", "好", "吃", "。"], []]
    assert list(tokenized(raw, "pieces")) == expected


@given(st.text())
def test_characters_are_all_but_white_space(text):
    assert "".join(tokenized([text], "characters")[0]) == "".join(text.split())


@pytest.mark.parametrize("text", ["我来到北京清华大学", "质量 很好<unk>吃，还会再买！"])
def test_jieba_cuts_chinese_words(text):
    jieba = pytest.importorskip("jieba")
    found = tokenized([text, ""], "jieba")
    parts = [word for part in text.split("<unk>") for word in jieba.lcut(part)]
    assert [word for word in found[0] if word != "<unk>"] == [word for word in parts if word.strip()]
    assert found[0].count("<unk>") == text.count("<unk>") and found[1] == []
    assert max(map(len, found[0])) > 1


def test_jieba_says_nothing_and_leaves_no_file(tmp_path):
    """Its own start tells stderr what it does and keeps its dictionary in the machine's temporary folder."""
    pytest.importorskip("jieba")
    code = "from textvae.metrics.words import tokenized; print(len(tokenized(['我来到北京'], 'jieba')[0]))"
    environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("3\n", "") and list(tmp_path.iterdir()) == []


def test_without_jieba_its_name_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    words._jieba.cache_clear()
    with pytest.raises(RequestError) as caught:
        tokenized(["我"], "jieba")
    assert str(caught.value) == (
        "tokenize: jieba is not installed; install it with pip install 'textvae[chinese]', "
        "or use --tokenize characters"
    )


def test_what_cannot_be_tokenized():
    with pytest.raises(
        RequestError, match="'word' is not one of words, pieces, characters, jieba; did you mean 'words'"
    ):
        tokenized(["a"], "word")
    with pytest.raises(RequestError, match=r"texts = 'the food': a list of texts is expected; wrap a single one"):
        tokenized("the food")
