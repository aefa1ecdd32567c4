# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""Parses and evaluates the expressions of `filter`: comparisons of measures, joined by `and`, `or` and `not`.

    expression: sum [("<" | "<=" | ">" | ">=" | "==" | "!=") sum], joined by "not", "and", "or" in Python's order
    sum:        terms joined by + - * /, with parentheses
    term:       number | "text" | measure | measure(argument) | quantile(share)

An expression is data. It is read by this grammar and never evaluated as Python, and it can name nothing but measures.

A measure may have no value for a row. Such a comparison is neither true nor false, and `and`, `or`, `not` follow Kleene's logic: the
row is kept only if the whole is true.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nemo_oracle_kd.errors import ConfigError, unknown_name

__all__ = ['Names', 'Node', 'comparisons', 'evaluate', 'measures_of', 'parse', 'resolve_quantiles', 'terms_of']

_TOKEN = re.compile(
    r'\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|"(?P<text>[^"]*)"'
    r"|'(?P<quoted>[^']*)'|(?P<sign><=|>=|==|!=|[-+*/<>(),]))"
)
_COMPARE = {
    '<': operator.lt,
    '<=': operator.le,
    '>': operator.gt,
    '>=': operator.ge,
    '==': operator.eq,
    '!=': operator.ne,
}
_COMPUTE = {'+': operator.add, '-': operator.sub, '*': operator.mul, '/': operator.truediv}
_MOST_TOKENS, _MOST_NESTED = 300, 50


@dataclass(frozen=True)
class Node:
    """A part of an expression.

    Attributes:
        kind: `number`, `text`, `measure`, `quantile`, `negative`, `not`, or the sign or word that joins two parts.
        type: `number`, `text` or `truth`.
        source: the part as it was written.
        value: the number, the text, or the share of a quantile.
        name: name and argument of a measure, the argument `None` where there is none.
        parts: what it is made of.
    """

    kind: str
    type: str
    source: str
    value: Any = None
    name: tuple[str, str | None] | None = None
    parts: tuple['Node', ...] = field(default=())


@dataclass(frozen=True)
class Names:
    """What an expression may name.

    Attributes:
        measures: name -> type of its value, `number` or `text`.
        functions: name of a measure with an argument -> the arguments that it accepts; `None` accepts any.
    """

    measures: Mapping[str, str]
    functions: Mapping[str, tuple[str, ...] | None]


def parse(text: str, names: Names, wanted: str = 'truth') -> Node:
    """Parses an expression.

    Args:
        text: the expression.
        names: what it may name.
        wanted: type of its value, `truth` or `number`.

    Raises:
        ConfigError: what is wrong with it, with the column.
    """
    node = _Parser(text, names).whole()
    if node.type != wanted:
        example = (
            'a comparison, such as nll_per_token < 0.4' if wanted == 'truth' else 'a number, such as 1 - wer(other)'
        )
        raise ConfigError(f"`{text.strip()}` is a {node.type} and not a {wanted}: write {example}")
    return node


class _Parser:
    """Recursive descent, one method for each level of binding."""

    def __init__(self, text: str, names: Names):
        self.text, self.names = text, names
        self.tokens = list(self._tokens())
        if len(self.tokens) > _MOST_TOKENS:
            raise ConfigError(f"the expression has {len(self.tokens)} words and signs: write at most {_MOST_TOKENS}")
        self.place = self.depth = 0

    def _tokens(self) -> Iterator[tuple[str, str, int, int]]:
        start, end = 0, len(self.text.rstrip())
        while start < end:
            match = _TOKEN.match(self.text, start)
            if match is None:
                at = start + len(self.text[start:]) - len(self.text[start:].lstrip())
                raise self._error(at, f"{self.text[at]!r} is not understood")
            kind = match.lastgroup
            begin = match.start(kind) - (kind in ('text', 'quoted'))
            yield 'text' if kind == 'quoted' else kind, match[kind], begin, match.end()
            start = match.end()
        yield 'end', '', end, end

    def _error(self, column: int, what: str) -> ConfigError:
        return ConfigError(f"the expression `{self.text.strip()}` is wrong at column {column + 1}: {what}")

    @property
    def next(self) -> str:
        kind, value, _, _ = self.tokens[self.place]
        return value if kind in ('sign', 'name') else ''

    def _take(self) -> tuple[str, str, int, int]:
        self.place += 1
        return self.tokens[self.place - 1]

    def _expect(self, sign: str) -> None:
        if self.next != sign:
            raise self._error(self.tokens[self.place][2], f"{sign!r} is expected here")
        self._take()

    def _node(self, start: int, kind: str, kind_of_value: str, **content: Any) -> Node:
        source = self.text[self.tokens[start][2] : self.tokens[self.place - 1][3]]
        return Node(kind, kind_of_value, source, **content)

    def _require(self, node: Node, wanted: str, start: int, sign: str) -> None:
        if node.type != wanted:
            raise self._error(self.tokens[start][2], f"{sign!r} joins {wanted}s, and `{node.source}` is a {node.type}")

    def whole(self) -> Node:
        node = self._or()
        kind, value, column, _ = self.tokens[self.place]
        if kind != 'end':
            raise self._error(column, f"{value!r} does not belong here; join comparisons by and, or")
        return node

    def _joined(self, word: str, inner: Callable[[], Node]) -> Node:
        start = self.place
        node = inner()
        while self.next == word:
            self._require(node, 'truth', start, word)
            self._take()
            right = self.place
            other = inner()
            self._require(other, 'truth', right, word)
            node = self._node(start, word, 'truth', parts=(node, other))
        return node

    def _or(self) -> Node:
        self.depth += 1
        if self.depth > _MOST_NESTED:
            raise self._error(self.tokens[self.place][2], "it is nested too deeply; leave parentheses out")
        node = self._joined('or', lambda: self._joined('and', self._not))
        self.depth -= 1
        return node

    def _not(self) -> Node:
        start = self.place
        count = 0
        while self.next == 'not':
            self._take()
            count += 1
        inner = self.place
        node = self._comparison()
        if count:
            self._require(node, 'truth', inner, 'not')
        return self._node(start, 'not', 'truth', parts=(node,)) if count % 2 else node

    def _comparison(self) -> Node:
        start = self.place
        left = self._sum()
        sign = self.next
        if sign not in _COMPARE:
            if left.kind == 'quantile':
                raise self._error(
                    self.tokens[start][2], "a quantile is compared with a measure, as in duration < quantile(0.9)"
                )
            return left
        self._take()
        right = self._sum()
        if self.next in _COMPARE:
            raise self._error(
                self.tokens[self.place][2], "only two values can be compared; join two comparisons by and"
            )
        if left.type != right.type or left.type == 'truth':
            raise self._error(
                self.tokens[start][2],
                f"`{left.source}`, a {left.type}, cannot be compared with `{right.source}`, a {right.type}",
            )
        if left.type == 'text' and sign not in ('==', '!='):
            raise self._error(self.tokens[start][2], "texts can be compared by == and != alone")
        if left.kind == right.kind == 'quantile':
            raise self._error(
                self.tokens[start][2], "a quantile is compared with a measure, as in duration < quantile(0.9)"
            )
        return self._node(start, sign, 'truth', parts=(left, right))

    def _chain(self, signs: str, inner: Callable[[], Node]) -> Node:
        start = self.place
        node = inner()
        while self.next and self.next in signs:
            sign = self._take()[1]
            right = self.place
            other = inner()
            for part, at in ((node, start), (other, right)):
                self._require(part, 'number', at, sign)
                if part.kind == 'quantile':
                    raise self._error(self.tokens[at][2], "a quantile stands alone on its side of a comparison")
            node = self._node(start, sign, 'number', parts=(node, other))
        return node

    def _sum(self) -> Node:
        return self._chain('+-', lambda: self._chain('*/', self._term))

    def _term(self) -> Node:
        start = self.place
        kind, value, column, _ = self._take()
        if kind == 'number':
            return self._node(start, 'number', 'number', value=float(value))
        if kind == 'text':
            return self._node(start, 'text', 'text', value=value)
        if value == '(' and kind == 'sign':
            node = self._or()
            self._expect(')')
            return replace(node, source=self.text[column : self.tokens[self.place - 1][3]])
        if value == '-' and kind == 'sign':
            self.depth += 1
            if self.depth > _MOST_NESTED:
                raise self._error(column, "it is nested too deeply")
            node = self._term()
            self.depth -= 1
            self._require(node, 'number', start + 1, '-')
            return self._node(start, 'negative', 'number', parts=(node,))
        if kind == 'name' and value not in ('and', 'or', 'not'):
            return self._named(start, value, column)
        raise self._error(column, "a measure or a number is expected here")

    def _named(self, start: int, name: str, column: int) -> Node:
        functions = self.names.functions
        if name != 'quantile' and name not in functions:
            if name not in self.names.measures:
                raise self._error(
                    column, unknown_name('measure', name, [*self.names.measures, *functions, 'quantile'])
                )
            return self._node(start, 'measure', self.names.measures[name], name=(name, None))
        self._expect('(')
        kind, argument, at, _ = self._take()
        if name == 'quantile':
            if kind != 'number' or not 0 <= float(argument) <= 1:
                raise self._error(at, "a quantile takes a share from 0 to 1, as in quantile(0.8)")
            self._expect(')')
            return self._node(start, 'quantile', 'number', value=float(argument))
        accepted = functions[name]
        if kind not in ('name', 'text'):
            raise self._error(at, f"{name} takes a name, as in {name}({(accepted or ('key',))[0]})")
        if accepted is not None and argument not in accepted:
            raise self._error(at, unknown_name(f'argument of {name}', argument, accepted))
        self._expect(')')
        return self._node(start, 'measure', 'number', name=(name, argument))


def evaluate(node: Node, value_of: Callable[[str, str | None], Any]) -> Any:
    """The value for one row; `None` if it cannot be told.

    Args:
        node: an expression without quantiles, see :func:`resolve_quantiles`.
        value_of: gives the value of a measure, by its name and argument.
    """
    if node.kind in ('number', 'text'):
        return node.value
    if node.kind == 'measure':
        return value_of(*node.name)
    values = [evaluate(part, value_of) for part in node.parts]
    if node.kind in ('and', 'or'):
        decisive = node.kind == 'or'
        return decisive if decisive in values else None if None in values else not decisive
    if None in values:
        return None
    if node.kind == 'not':
        return not values[0]
    if node.kind == 'negative':
        return -values[0]
    if node.kind in _COMPARE:
        return _COMPARE[node.kind](*values)
    try:
        return _COMPUTE[node.kind](*values)
    except (ZeroDivisionError, OverflowError):
        return None


def resolve_quantiles(node: Node, quantile_of: Callable[[Node, float], float]) -> Node:
    """Replaces each quantile by its number.

    Args:
        node: an expression.
        quantile_of: gives the quantile of an expression over all rows.
    """
    parts = tuple(resolve_quantiles(part, quantile_of) for part in node.parts)
    if node.kind in _COMPARE and any(part.kind == 'quantile' for part in parts):
        left, right = parts
        if left.kind == 'quantile':
            parts = (replace(left, kind='number', value=quantile_of(right, left.value)), right)
        else:
            parts = (left, replace(right, kind='number', value=quantile_of(left, right.value)))
    return replace(node, parts=parts)


def terms_of(node: Node) -> list[Node]:
    """The parts that all have to be true, which `and` joins."""
    return [term for part in node.parts for term in terms_of(part)] if node.kind == 'and' else [node]


def comparisons(node: Node) -> list[Node]:
    """All comparisons of numbers of which one side is a constant, that constant on the right."""
    if node.kind in _COMPARE and node.parts[0].type == 'number':
        left, right = node.parts
        if measures_of(left) and right.kind in ('number', 'negative') and not measures_of(right):
            return [node]
        if measures_of(right) and left.kind in ('number', 'negative') and not measures_of(left):
            turned = {'<': '>', '<=': '>=', '>': '<', '>=': '<='}.get(node.kind, node.kind)
            return [replace(node, kind=turned, parts=(right, left))]
        return []
    return [found for part in node.parts for found in comparisons(part)]


def measures_of(node: Node) -> set[tuple[str, str | None]]:
    """Names and arguments of all measures."""
    own = {node.name} if node.kind == 'measure' else set()
    return own.union(*(measures_of(part) for part in node.parts))
