# SPDX-FileCopyrightText: Copyright (c) 2026 the nemo_oracle_kd authors
# SPDX-License-Identifier: Apache-2.0

"""The grammar of filters: what an expression is worth, Kleene's logic for unknown values, and what it refuses."""

import itertools

import pytest

from nemo_oracle_kd.errors import ConfigError
from nemo_oracle_kd.labelling.filter_expression import Names, comparisons, evaluate, parse, resolve_quantiles, terms_of

NAMES = Names({'a': 'number', 'b': 'number', 'language': 'text'}, {'wer': ('second', 'reference'), 'field': None})
VALUES = {('a', None): 2.0, ('b', None): 0.5, ('language', None): 'en', ('wer', 'second'): 0.25, ('field', 'x'): None}


def _value(text, wanted='truth', **values):
    known = {**VALUES, **{(name, None): value for name, value in values.items()}}
    return evaluate(parse(text, NAMES, wanted), lambda *name: known[name])


@pytest.mark.parametrize(
    'text',
    [
        'a > 1',
        'a > 1 and b < 1 or a < 0',
        'not a < 1 and not not b == .5',
        'a + b * 2 == 3 and (a + b) * 2 == 5',
        '-a - -b == -1.5 and 6 / a / 3 == 1e0',
        'wer(second) < 0.3 and wer("second") <= 0.25',
        'language == "en" and language != \'de\'',
        '(a > 1 or b > 1) and (((a) >= (2)))',
        '1 < a',
        'field(x) > 1 or a > 1',
    ],
)
def test_an_expression_is_worth_what_python_would_make_of_it(text):
    assert _value(text) is True
    assert _value(f'not ({text})') is False


@pytest.mark.parametrize('a, b', itertools.product([1.0, 0.0, None], repeat=2))
def test_unknown_values_follow_kleene(a, b):
    truth = {1.0: True, 0.0: False, None: None}
    x, y = truth[a], truth[b]
    both = False if False in (x, y) else None if None in (x, y) else True
    either = True if True in (x, y) else None if None in (x, y) else False
    assert _value('a > 0.5 and b > 0.5', a=a, b=b) is both
    assert _value('a > 0.5 or b > 0.5', a=a, b=b) is either
    assert _value('not a > 0.5', a=a) is (None if x is None else not x)


def test_the_longest_expression_is_evaluated():
    assert _value('a' + ' + a' * 148 + ' > 1') is True and _value('a > 3' + ' or a > 1' * 74) is True


def test_a_number_may_be_computed_and_division_by_zero_is_unknown():
    assert _value('1 - wer(second)', 'number') == 0.75
    assert _value('a / (b - 0.5)', 'number') is None and _value('a / (b - 0.5) > 1') is None


def test_quantiles_become_numbers_and_thresholds_stand_on_the_right():
    node = parse('a < quantile(0.8) and (quantile(.5) <= b * 2 or 3 > a) and language == "en"', NAMES)
    node = resolve_quantiles(node, lambda part, share: {'a': 10.0, 'b * 2': 20.0}[part.source] + share)
    assert [term.source for term in terms_of(node)][0] == 'a < quantile(0.8)' and len(terms_of(node)) == 3
    found = [(part.parts[0].source, part.kind, part.parts[1].value) for part in comparisons(node)]
    assert found == [('a', '<', 10.8), ('b * 2', '>=', 20.5), ('a', '<', 3.0)]
    assert evaluate(node, lambda *name: {'a': 1.0, 'b': 0.0, 'language': 'en'}[name[0]]) is True


@pytest.mark.parametrize(
    'text, sentence',
    [
        ('', 'column 1: a measure or a number is expected'),
        ('a <', 'column 4: a measure or a number'),
        ('a', 'is a number and not a truth: write a comparison'),
        ('a < 1 b', "column 7: 'b' does not belong here"),
        ('a < 1 < 2', 'column 7: only two values can be compared'),
        ('a & b', "column 3: '&' is not understood"),
        ('a.__class__ == 1', "column 2: '.' is not understood"),
        ('__import__("os") == 1', "Unknown measure '__import__'"),
        ('(lambda: 1)() == 1', "column 8: ':' is not understood"),
        ('[a for a in b]', "'[' is not understood"),
        ('aa < 1', "Unknown measure 'aa'. Did you mean 'a'?"),
        ('wer(secnd) < 1', "Unknown argument of wer 'secnd'. Did you mean 'second'?"),
        ('wer < 1', "'(' is expected here"),
        ('wer(1) < 1', 'wer takes a name, as in wer(second)'),
        ('(a < 1', "')' is expected here"),
        ('a < "x"', 'a number, cannot be compared with `"x"`, a text'),
        ('language < "x"', 'texts can be compared by == and != alone'),
        ('language + 1 < 2', "'+' joins numbers, and `language` is a text"),
        ('a and b < 1', "'and' joins truths, and `a` is a number"),
        ('not a', "'not' joins truths"),
        ('-(a < 1) < 2', "'-' joins numbers"),
        ('(a < 1) == (b < 1)', 'cannot be compared'),
        ('a < quantile(2)', 'a share from 0 to 1'),
        ('a < quantile(0.5) + 1', 'a quantile stands alone'),
        ('quantile(0.5)', 'a quantile is compared with a measure'),
        ('quantile(0.1) < quantile(0.5)', 'a quantile is compared with a measure'),
        ('(' * 60 + 'a < 1' + ')' * 60, 'nested too deeply'),
        ('-' * 60 + 'a < 1', 'nested too deeply'),
        ('a < 1 or ' * 1000 + 'a < 1', 'write at most'),
    ],
)
def test_what_is_no_expression_is_refused_with_its_column(text, sentence):
    with pytest.raises(ConfigError) as raised:
        parse(text, NAMES)
    assert sentence in str(raised.value)
