"""Equality by algebra. It runs in a worker process, because parsing a model's output may never end.

latex2sympy parses LaTeX into sympy, and math-verify compares sets and relations. This module compares numbers and
terms, which math-verify rounds to six decimals, and tuples and lists, which math-verify does not distinguish. It does
not use math-verify's parser, for which N is n.
"""

from __future__ import annotations

import logging
import random
import re
from fractions import Fraction

import sympy
from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.latex2sympy2 import ConversionConfig
from math_verify import verify
from math_verify.grader import should_treat_as_complex

from prefix_opd.grading.expression import canonical, number_of
from prefix_opd.grading.structure import conditions, element, listed, named_alike, structure, without_names

DIGITS = 60
RELATIVE = 1e-40
"""Maximum relative difference of equal irrational values, computed to 60 digits."""
ROUNDING = Fraction(1, 1_000_000)
"""Maximum relative error of a rounded decimal."""
ROUNDING_DIGITS = 6
"""Minimum number of digits of a rounded decimal."""
_CONSTANT = sympy.Symbol("C", real=True)
POINTS, AGREEING = 12, 4
"""Random points at which terms are compared, and the number of points that must have a value."""

_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)\b")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\\circ")
_DEGREE_SIGN = re.compile(r"\s*\^\\circ(?!\s*\d)")
_FACTORS = re.compile(r"(\)|(?<![\w^\\{])\d+)\s*\(")
_CHAIN = re.compile(r"[^,;=]+(?:=[^,;=]+)+=([^,;=]+)")  # a = b = c
_COMMAND = re.compile(r"\\[A-Za-z]+\s*(?:\{(?:[a-z]*matrix|R|Z|N|Q|C)\})?")
_UNREADABLE = re.compile(
    r"(?<![_^\d.])\d+\s+[\d.]|(?<![A-Za-z])(?:[A-Za-z]{4,}|not|no|if|is|than|the|are|of|at)(?![A-Za-z])|[?#@]"
)
# units and wrappers are already removed; math-verify's rules would remove more than units
_NORMAL = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="last")
_WITH_CASE = ConversionConfig(lowercase_symbols=False)


def equal_by_algebra(answer: str, truth: str) -> bool:
    """Whether two answers in plain LaTeX are equal.

    Tuples and intervals are compared element by element, sets and lists in any order. Different kinds are not equal. A
    decimal number with at least six digits equals a value that it rounds. All other values must agree exactly.
    """
    logging.disable(logging.CRITICAL)  # math-verify warns that its own time limits are off
    answer, truth = listed(answer), listed(truth)
    answer, truth = without_names(answer, truth), without_names(truth, answer)
    answer = named_alike(answer, truth)
    if len(answer) == len(truth) == 1:  # a lone letter
        return answer.casefold() == truth.casefold()
    return _equal(element(answer, truth), element(truth, answer))


def _equal(answer: str, truth: str) -> bool:
    (kind, ours), (true_kind, theirs) = structure(answer), structure(truth)
    if kind == "list" and true_kind == "" and number_of(canonical(truth)) is not None:  # 3/4, or 0.75
        return len(set(ours)) > 1 and all(_equal(one, truth) for one in ours)
    if "" in (kind, true_kind):
        return _equal_values(answer, truth)
    if kind != true_kind or len(ours) != len(theirs):
        return False
    if kind == ":":  # the same ratio: each part times the other's first
        scaled = ((ours, theirs[0]), (theirs, ours[0]))
        ours, theirs = ([rf"({part})\cdot ({by})" for part in parts] for parts, by in scaled)
    if kind != "list":
        return all(_equal(one, other) for one, other in zip(ours, theirs, strict=True))
    for one in theirs:
        match = next((other for other in sorted(ours, key=lambda text: text != one) if _equal(other, one)), None)
        if match is None:
            return False
        ours.remove(match)
    return True


def _equal_values(answer: str, truth: str) -> bool:
    ours, theirs = canonical(answer), canonical(truth)
    if ours == theirs:
        return bool(ours)
    number, true_number = number_of(ours), number_of(theirs)
    if number is not None and true_number is not None and ("." in ours) == ("." in theirs):
        return number == true_number
    one, other = _parsed(answer), _parsed(truth)
    if one is None or other is None:
        return False
    if number is not None and "." in ours:
        return _rounds(ours, number, other)
    if true_number is not None and "." in theirs:
        return _rounds(theirs, true_number, one)
    return _equal_terms(one, other)


def _rounds(decimal: str, number: Fraction, term) -> bool:
    value = _value(_done(term), {})
    if value is None or not value.is_real:
        return False
    exact = Fraction(str(value))
    gap = abs(number - exact)
    digits, places = decimal.lstrip("-0.").replace(".", ""), len(decimal.partition(".")[2])
    rounded = gap <= ROUNDING * abs(exact) and gap < Fraction(1, 10**places)
    return gap == 0 or (len(digits) >= ROUNDING_DIGITS and rounded)


def _parsed(text: str):
    """A sympy object; None if the text is not an expression."""
    if alternatives := conditions(text):
        terms = [[_parsed(condition) for condition in together] for together in alternatives]
        if any(None in together for together in terms):
            return None
        sets = [[term.as_set() for term in together] for together in terms]
        return sympy.Union(*(sympy.Intersection(*each) or sympy.Union(*each) for each in sets))
    if _TRIGONOMETRIC.search(text):
        text = _DEGREES.sub(r"{\\frac{\1\\pi}{180}}", text)
    text = _FACTORS.sub(r"\1\\cdot (", _DEGREE_SIGN.sub("", text))  # the parser adds 2 and 3 of (2)(3)
    if "\\ldots" in text or _UNREADABLE.search(_COMMAND.sub("|", text)):
        return None
    latex = normalize_latex(f"\\boxed{{{text}}}", _NORMAL)
    chain = _CHAIN.fullmatch(latex)
    for part in (latex, *(chain.groups() if chain else ())):
        try:
            complex_too = should_treat_as_complex(part)
            term = latex2sympy(part, None, not complex_too, normalization_config=None, conversion_config=_WITH_CASE)
        except Exception:  # the parser's own
            continue
        return _exact(term)
    return None


def _exact(term):
    """The term with rationals in place of floats and real odd roots. The letter i is the imaginary unit."""
    if not isinstance(term, sympy.Expr):
        return term
    term = term.replace(lambda part: part.is_Float, lambda part: sympy.Rational(str(part)))
    for root in term.atoms(sympy.Pow):  # an odd root of a negative number; sympy's is complex
        if root.exp.is_Rational and root.exp.q > 1 and root.exp.q % 2 and root.base.is_negative:
            term = term.xreplace({root: (-1) ** root.exp.p * (-root.base) ** root.exp})
    # the parser's symbols are not real in a text with an i, so that n of one side would not be n of the other
    real = {symbol: sympy.Symbol(symbol.name, real=True) for symbol in term.free_symbols}
    return term.xreplace(real | {symbol: sympy.I for symbol in real if symbol.name == "i"})


def _equal_terms(one, other) -> bool:
    pair = (one, other)
    if all(isinstance(term, sympy.MatrixBase) for term in pair):
        same = (_equal_terms(_exact(a), _exact(b)) for a, b in zip(one.flat(), other.flat(), strict=False))
        return one.shape == other.shape and all(same)
    if all(isinstance(term, sympy.Expr) for term in pair):
        return any(_equal_scalars(*both) for both in _spellings(one, other))
    if len(one.free_symbols | other.free_symbols) < 2 and (ours := _as_set(one)) is not None and ours == _as_set(other):
        return True
    kinds = ((sympy.FiniteSet, sympy.Interval), (sympy.Eq, sympy.Expr))  # verify does not distinguish these
    if any(all(any(isinstance(term, kind) for term in pair) for kind in both) for both in kinds):
        return False
    return bool(verify(other, one, 12, DIGITS, allow_set_relation_comp=True, timeout_seconds=None))


def _spellings(one, other):
    """The pair of terms; with the logarithms of products as sums; derived, without a constant of integration."""
    yield one, other
    if one.has(sympy.log) and other.has(sympy.log):
        yield one.replace(sympy.log, _long_log), other.replace(sympy.log, _long_log)
    ours, theirs = one - _CONSTANT, other - _CONSTANT
    if len(names := ours.free_symbols | theirs.free_symbols) == 1 and names != {_CONSTANT}:
        yield ours.diff(*names), theirs.diff(*names)


def _long_log(of):
    return sympy.expand_log(sympy.log(sympy.factor(of)), force=True) if of.free_symbols else sympy.log(of)


def _as_set(term) -> sympy.Set | None:
    """The value of a set, or the set of a condition on one variable, such as |x| < 1."""
    if isinstance(term, sympy.Eq) or not isinstance(term, (sympy.Set, sympy.logic.boolalg.Boolean)):
        return None
    try:
        return term.doit() if isinstance(term, sympy.Set) else term.as_set()
    except NotImplementedError:
        return None


def _equal_scalars(one, other) -> bool:
    """Compare values at random points where at least one term is real; simplify if there are too few such points."""
    if one == other:
        return True
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    sums = one.atoms(sympy.Sum, sympy.Product) | other.atoms(sympy.Sum, sympy.Product)
    if not (counts := any(part.limits[0][-1].free_symbols for part in sums)):  # a number of summands is an integer
        one, other = _done(one), _done(other)
    if one.is_Rational and other.is_Rational:
        return one == other
    generator = random.Random(0)
    draws = (lambda: generator.randint(2, 12), lambda: generator.uniform(0.1, 3), lambda: generator.uniform(-3, 3))
    complex_too = not symbols or one.has(sympy.I) or other.has(sympy.I)
    agreed = 0
    for number in range(POINTS if symbols else 1):
        at = {symbol: sympy.Rational(str(round(draws[0 if counts else number % 3](), 6))) for symbol in symbols}
        left, right = (_value(_done(term.xreplace(at)) if counts else term, at) for term in (one, other))
        if left is None or right is None:
            continue
        zero, other_zero = _vanishes(left), _vanishes(right)
        if zero != other_zero:
            return bool(sympy.simplify(one - other) == 0)
        same = zero or bool(abs(left - right) <= RELATIVE * abs(left))
        if not same and (complex_too or left.is_real or right.is_real):
            return False
        agreed += same and not zero
    return agreed >= (AGREEING if symbols else 1) or bool(sympy.simplify(one - other) == 0)


def _value(term, at: dict):
    """The term's value at a point as a sympy number; None if undefined."""
    try:
        value = term.evalf(DIGITS, subs=at or None, maxn=10_000)
    except Exception:
        return None
    return value if value.is_number and value.is_finite else None


def _vanishes(value) -> bool:
    """Whether a value is zero as far as it can be computed: sympy gives 0.e-10111 for 8^2 - 8^2."""
    return all(part == 0 or (part.is_Float and part._prec == 1) for part in value.as_real_imag())


def _done(term):
    """The term with sums, powers and factorials evaluated, as far as sympy can."""
    try:
        return term.doit()
    except Exception:
        return term
