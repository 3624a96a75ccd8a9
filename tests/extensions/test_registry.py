"""What a registry leaves out of an installed package, with the reason in the warning and in the message."""

from importlib.metadata import EntryPoint

import pytest

from textvae import extensions
from textvae.errors import RequestError
from textvae.objective.settings import parse
from textvae.objective.terms import TERMS

MODULES = {
    "silent": "from textvae.objective.terms.term import Term\nclass Bad(Term):\n    limit: float = 1.0\n",
    "untyped": "from textvae.objective.terms.term import Term\nclass Bad(Term):\n    limit = 10.0\n",
    "untyped_text": "from textvae.objective.terms.term import Term\nclass Bad(Term):\n    mode = 'a'\n",
    "failing": "raise ValueError('first line\\nsecond line')\n",
    "mute": "raise ValueError\n",
    "other": "Bad = 3\n",
}
REASONS = {
    "silent": "it does not define __call__",
    "untyped": "`limit = 10.0` has no type; give it one: `limit: float = 10.0`",
    "untyped_text": "`mode = 'a'` has no type; give it one: `mode: TYPE = 'a'`",
    "failing": "first line",
    "mute": "ValueError",
    "other": "it is not a subclass of Term",
}


@pytest.mark.parametrize("name", MODULES)
def test_a_term_that_is_left_out_is_not_unknown_but_has_a_reason(name, tmp_path, monkeypatch):
    module = f"textvae_left_out_{name}"
    (tmp_path / f"{module}.py").write_text(MODULES[name])
    monkeypatch.syspath_prepend(tmp_path)
    point = EntryPoint("bad", f"{module}:Bad", "textvae.terms")
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point])
    registry = extensions.Registry("textvae.terms", TERMS.own, TERMS.check)
    reason = f"{module}:Bad is left out: {REASONS[name]}"
    with pytest.warns(UserWarning) as warned:
        assert "bad" not in registry
    assert [str(one.message) for one in warned] == [f"textvae.terms: {reason}"]
    with pytest.raises(RequestError) as caught:
        parse({"objective": {"bad": {}, "kll": {}}}, registry)
    assert str(caught.value).splitlines() == [
        f"objective.bad: {reason}",
        "objective.kll: unknown term; did you mean 'kl'?",
    ]
