"""The embedded corpus `grammar`: product reviews from a probabilistic grammar with exactly known statistics.

For real corpora the distance of a model from the true distribution is unknown. Here `log_prob` of a sentence, the
`entropy` of the language and the `attributes` behind any sentence are computed, not estimated. This module is a
small engine for such grammars; the rules of the reviews are in `reviews.py`.

A grammar is text, one rule a line, `NAME [when] = alternative | alternative`:

    VERB [past] = 2 liked | 1 enjoyed
    VERB [present she he] = likes | enjoys

Upper case names a rule, anything else is a word of the language, a leading number is a weight (default 1), and `-`
is the empty alternative. A sentence first draws one value of every attribute, independently. A rule with brackets
applies only if it agrees with them: values of one attribute are alternatives, values of different attributes must
hold together. Weights are normalised over the alternatives that apply. The first rule is the start, and no rule may
lead back to itself, so the language is finite.
"""

import bisect
import functools
import graphlib
import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Union

from textvae.errors import RequestError
from textvae.text.reviews import ATTRIBUTES, CATEGORIES, RULES
from textvae.text.rules import Alternative, read_rules, union

_END = ""  # end of every sentence in the parser; splitting at white space never yields it


class Derivation(NamedTuple):
    """One derivation of a sentence: the attribute values and the log-probability."""

    attributes: dict[str, str]
    log_prob: float  # nats, of this derivation


class _Item(NamedTuple):
    """A partial parse: the symbols still expected, the attribute values still possible, the alternatives used."""

    stack: tuple[str, ...]
    allowed: int
    trail: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    """A rule under given attribute values, prepared for sampling."""

    cumulative: list[float]  # of all alternatives but the last
    expansions: list[tuple[Union[str, "_Node"], ...]]  # reversed, for use on a stack
    log_probs: dict[int, float]  # by the alternative's number
    entropy: float  # nats, of all expansions below
    shortest: int
    longest: int


class Grammar:
    """Finite probabilistic grammar over attributes.

    All log-probabilities and entropies are in nats per sentence.

    Args:
        rules: Text in the notation of this module's docstring.
        attributes: Values of every attribute and their weights; a weight of zero excludes a value.
        groups: Names of sets of values, for use in brackets. They share one namespace with the values.

    Raises:
        RequestError: With the line, for rules that cannot be read.
    """

    def __init__(
        self,
        rules: str,
        attributes: Mapping[str, Mapping[str, float | int]],
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._source = rules, attributes, groups
        self._bits: dict[str, int] = {}
        self._fields: dict[str, int] = {}
        self._prior: dict[str, dict[int, float]] = {}
        self._label: dict[int, tuple[str, str]] = {}
        for attribute, weights in attributes.items():
            total = sum(weights.values())
            if not total > 0 or min(weights.values()) < 0:
                raise RequestError(f"attribute '{attribute}': weights {dict(weights)}; some above 0, none below")
            self._prior[attribute] = {}
            for value, weight in weights.items():
                if value in self._bits:
                    raise RequestError(f"attribute '{attribute}': value '{value}' occurs twice; name it otherwise")
                bit = self._bits[value] = 1 << len(self._bits)
                self._label[bit] = attribute, value
                if weight > 0:
                    self._prior[attribute][bit] = weight / total
            self._fields[attribute] = sum(self._bits[value] for value in weights)
        self._possible = sum(bit for prior in self._prior.values() for bit in prior)
        named = {name: union(self._bits[value] for value in values) for name, values in (groups or {}).items()}
        self._start, self._rules = read_rules(rules, self._bits | named, self._fields, self._possible)
        self._link()
        self._nodes: dict[tuple[str, int], _Node] = {}

    def _link(self) -> None:
        """Compute the dependencies of each rule, and the table that predicts alternatives from the next word."""
        below = {
            name: {s for alternative in known for s in alternative.symbols if s in self._rules}
            for name, known in self._rules.items()
        }
        try:
            order = list(graphlib.TopologicalSorter(below).static_order())
        except graphlib.CycleError as cycle:
            raise RequestError(f"grammar: the rules lead in a circle, {' <- '.join(cycle.args[1])}") from None
        self._depends: dict[str, int] = {}
        self._empty: dict[str, list[Alternative]] = {}  # alternatives that can be empty
        self._predicted: dict[str, dict[str, list[Alternative]]] = {}
        for name in order:
            known = self._rules[name]
            guards = (field for alternative in known for field in alternative.guarded)
            self._depends[name] = union([*guards, *(self._depends[symbol] for symbol in below[name])])
            empty = [a for a in known if all(self._empty.get(symbol) for symbol in a.symbols)]
            self._empty[name] = empty
            starts = [self._starts(alternative.symbols) for alternative in known]
            self._predicted[name] = {
                word: [a for a, begins in zip(known, starts, strict=True) if word in begins or a in empty]
                for word in itertools.chain.from_iterable(starts)
            }
        reached = {self._start}
        for name in reversed(order):
            reached |= below[name] if name in reached else set()
        symbols = {s for name in reached for alternative in self._rules[name] for s in alternative.symbols}
        self._vocabulary = tuple(sorted(symbols - self._rules.keys()))

    def _starts(self, symbols: Sequence[str]) -> set[str]:
        """Return the words with which `symbols` can begin."""
        words: set[str] = set()
        for symbol in symbols:
            if symbol not in self._rules:
                return words | {symbol}
            words |= self._predicted[symbol].keys()
            if not self._empty[symbol]:
                break
        return words

    def _node(self, name: str, bits: int) -> _Node:
        """Return rule `name` under the assignment `bits`; assignments that it does not distinguish share a node."""
        key = name, bits & self._depends[name]
        if key in self._nodes:
            return self._nodes[key]
        known = [alternative for alternative in self._rules[name] if not bits & ~alternative.allowed]
        if not known:
            values = [value for value, bit in self._bits.items() if bit & key[1]]
            raise RequestError(f"grammar rule '{name}': no alternative for {', '.join(values)}; add one")
        total = sum(alternative.weight for alternative in known)
        probs = [alternative.weight / total for alternative in known]
        entropy, expansions, shortest, longest = 0.0, [], [], []
        for alternative, prob in zip(known, probs, strict=True):
            nodes = [self._node(symbol, bits) for symbol in alternative.symbols if symbol in self._rules]
            words = len(alternative.symbols) - len(nodes)
            entropy += prob * (sum(node.entropy for node in nodes) - math.log(prob))
            shortest.append(words + sum(node.shortest for node in nodes))
            longest.append(words + sum(node.longest for node in nodes))
            expansion: list[str | _Node] = []
            for symbol in reversed(alternative.symbols):
                node = self._node(symbol, bits) if symbol in self._rules else None
                if node is None:
                    expansion.append(symbol)
                elif len(node.expansions) == 1:  # nothing to draw: expand it here
                    expansion.extend(node.expansions[0])
                else:
                    expansion.append(node)
            expansions.append(tuple(expansion))
        log_probs = {a.number: math.log(prob) for a, prob in zip(known, probs, strict=True)}
        cumulative = list(itertools.accumulate(probs))[:-1]
        node = _Node(cumulative, expansions, log_probs, entropy, min(shortest), max(longest))
        return self._nodes.setdefault(key, node)

    # the language ------------------------------------------------------------------------------------------

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words of the language, sorted."""
        return self._vocabulary

    @property
    def values(self) -> dict[str, dict[str, float]]:
        """Probability of every value of every attribute."""
        return {
            attribute: {self._label[bit][1]: prob for bit, prob in prior.items()}
            for attribute, prior in self._prior.items()
        }

    def _assignments(self, allowed: int) -> Iterator[tuple[int, float]]:
        """Yield every choice of one value per attribute among `allowed`, with its probability."""
        choices = [[(bit, p) for bit, p in prior.items() if bit & allowed] for prior in self._prior.values()]
        for choice in itertools.product(*choices):
            yield sum(bit for bit, _ in choice), math.prod(prob for _, prob in choice)

    @functools.cached_property
    def entropy(self) -> float:
        """Entropy of a derivation, nats per sentence, by recursion over the rules.

        It equals the entropy of the sentences if `ambiguity()` is None, and exceeds it otherwise.
        """
        return sum(
            prob * (self._node(self._start, bits).entropy - math.log(prob))
            for bits, prob in self._assignments(self._possible)
        )

    @functools.cached_property
    def lengths(self) -> tuple[int, int]:
        """Tokens of the shortest and of the longest sentence."""
        nodes = [self._node(self._start, bits) for bits, _ in self._assignments(self._possible)]
        return min(node.shortest for node in nodes), max(node.longest for node in nodes)

    def given(self, **values: str | Sequence[str]) -> "Grammar":
        """Return the same grammar with attributes restricted to some values.

        `given(tense="past", person=("i", "we"))` keeps one tense and two persons.

        Raises:
            RequestError: For an unknown attribute or value.
        """
        rules, attributes, groups = self._source
        held = dict(attributes)
        for attribute, value in values.items():
            chosen = (value,) if isinstance(value, str) else tuple(value)
            if attribute not in attributes:
                raise RequestError(f"attribute '{attribute}': unknown; one of {', '.join(attributes)}")
            if not chosen or not set(chosen) <= attributes[attribute].keys():
                raise RequestError(f"{attribute} {list(chosen)}: some of {', '.join(attributes[attribute])}")
            held[attribute] = {v: w if v in chosen else 0.0 for v, w in attributes[attribute].items()}
        return Grammar(rules, held, groups)

    def language(self) -> Iterator[tuple[str, float]]:
        """Yield the sentence and log-probability (nats) of every derivation; feasible for small grammars only."""
        for bits, prior in self._assignments(self._possible):
            todo: list[tuple[tuple[str | _Node, ...], tuple[str, ...], float]]
            todo = [((self._node(self._start, bits),), (), math.log(prior))]
            while todo:
                stack, words, log_prob = todo.pop()
                if not stack:
                    yield " ".join(words), log_prob
                elif isinstance(top := stack[-1], str):
                    todo.append((stack[:-1], (*words, top), log_prob))
                else:
                    for expansion, more in zip(top.expansions, top.log_probs.values(), strict=True):
                        todo.append((stack[:-1] + expansion, words, log_prob + more))

    # sampling ----------------------------------------------------------------------------------------------

    def sample_with_attributes(self, n: int, seed: int) -> list[tuple[str, dict[str, str]]]:
        """Draw `n` independent sentences, each with the attribute values that generated it."""
        return list(self.each_sample(n, seed))

    def each_sample(self, n: int, seed: int) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield what `sample_with_attributes` returns, one sentence at a time."""
        if n < 0:
            raise RequestError(f"sample: n is {n}; give 0 or more")
        draw = random.Random(seed).random  # the one generator whose stream Python guarantees across versions
        priors = [(list(p), list(itertools.accumulate(p.values()))[:-1]) for p in self._prior.values()]
        for _ in range(n):
            chosen = [bits[bisect.bisect(cumulative, draw())] for bits, cumulative in priors]
            words: list[str] = []
            stack: list[str | _Node] = [self._node(self._start, sum(chosen))]
            while stack:
                top = stack.pop()
                if isinstance(top, str):
                    words.append(top)
                else:
                    stack.extend(top.expansions[bisect.bisect(top.cumulative, draw())])
            yield " ".join(words), dict(self._label[bit] for bit in chosen)

    def sample(self, n: int, seed: int) -> list[str]:
        """Draw `n` independent sentences, words separated by single spaces."""
        return [sentence for sentence, _ in self.each_sample(n, seed)]

    # parsing -----------------------------------------------------------------------------------------------

    def _advance(self, items: Sequence[_Item], word: str) -> list[_Item]:
        """Return all parses after one more word."""
        after, todo = [], list(items)
        while todo:
            (top, *_), allowed, trail = item = todo.pop()
            if top not in self._rules:
                if top == word:
                    after.append(_Item(item.stack[1:], allowed, trail))
                continue
            for alternative in self._predicted[top].get(word, self._empty[top]):
                left = allowed & alternative.allowed
                if all(left & field for field in alternative.guarded):
                    todo.append(_Item(alternative.symbols + item.stack[1:], left, (*trail, alternative)))
        return after

    def derivations(self, sentence: str) -> list[Derivation]:
        """Return every derivation of a sentence, the most probable first; none outside the language."""
        items = [_Item((self._start, _END), self._possible, ())]
        for word in (*sentence.split(), _END):
            items = self._advance(items, word)
            if not items:
                return []
        derivations = []
        for _, allowed, trail in items:
            for bits, prior in self._assignments(allowed):
                steps = sum(self._node(step.name, bits).log_probs[step.number] for step in trail)
                attributes = dict(label for bit, label in self._label.items() if bit & bits)
                derivations.append(Derivation(attributes, math.log(prior) + steps))
        return sorted(derivations, key=lambda derivation: -derivation.log_prob)

    def log_prob(self, sentence: str) -> float:
        """Return the exact log-probability of a sentence, nats, over all its derivations.

        It is -inf outside the language.
        """
        derivations = self.derivations(sentence)
        if not derivations:
            return -math.inf
        if len(derivations) == 1:
            return derivations[0].log_prob
        best = derivations[0].log_prob
        return best + math.log(math.fsum(math.exp(derivation.log_prob - best) for derivation in derivations))

    def attributes(self, sentence: str) -> dict[str, str] | None:
        """Return the attribute values of a sentence's most probable derivation; None outside the language."""
        derivations = self.derivations(sentence)
        return derivations[0].attributes if derivations else None

    def ambiguity(self) -> str | None:
        """Return the beginning of a sentence that may have two derivations, or None, which proves that none has.

        The search follows all parses of all sentences at once, word by word. The words read so far matter only
        through the set of open parses, and there are few such sets.
        """
        start = (_Item((self._start, _END), self._possible, ()),)
        seen: set[frozenset[tuple[tuple[str, ...], int]]] = set()
        todo: list[tuple[str, Sequence[_Item]]] = [("", start)]
        while todo:
            prefix, items = todo.pop()
            for word in sorted({word for item in items for word in self._starts(item.stack)}):
                after = self._advance(items, word)
                state = frozenset((item.stack, item.allowed) for item in after)
                if word == _END and len(after) == 1:
                    if after[0].allowed.bit_count() != len(self._fields):  # an attribute left no trace
                        return prefix
                elif len(state) < len(after) or (word == _END and after):
                    return f"{prefix} {word}".strip()
                elif state and state not in seen:
                    seen.add(state)
                    todo.append((f"{prefix} {word}".strip(), [_Item(*open_parse, ()) for open_parse in state]))
        return None


@functools.cache
def reviews() -> Grammar:
    """Return the grammar of product reviews, written for this project.

    Attributes, drawn independently: product (24, in six categories), sentiment, tense, person, intensity and
    length (of the template, not of the sentence). Every sentence has one derivation.
    """
    return Grammar(RULES, ATTRIBUTES, CATEGORIES)


def splits(seed: int = 0) -> dict[str, list[str]]:
    """Return the corpus `grammar`: 20,000 / 2,000 / 2,000 independent reviews as train, valid and test."""
    sentences = reviews().sample(24_000, seed)
    return {"train": sentences[:20_000], "valid": sentences[20_000:22_000], "test": sentences[22_000:]}
