"""No pattern of the grader takes exponential or cubic time, whatever is repeated in a text.

Each repetition of each pattern is pumped: a text that fits the pattern repeats the body of that repetition, and ends
with a character that fits nothing. Limits count processor time, so that the load of the machine does not matter.
"""

import importlib
import inspect
import pkgutil
import random
import re
import signal
import time
from re import _constants as op
from re import _parser

import pytest

from prefix_opd import grading

CHARS = 160
"""Length of the first text."""
LIMIT_S = 1.0
"""Limit of processor time of one match. A text of 640 characters takes 0.02 s at most."""
REPEATS = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
CATEGORIES = {op.CATEGORY_DIGIT: "5", op.CATEGORY_SPACE: " ", op.CATEGORY_NOT_WORD: " "}


def patterns():
    """(name, pattern, whether it is searched in a text) of each pattern of the room."""
    for found in pkgutil.iter_modules(grading.__path__):
        module = importlib.import_module(f"prefix_opd.grading.{found.name}")
        source = inspect.getsource(module)
        for name, value in vars(module).items():
            searched = re.search(rf"\b{name}\.(?:search|sub|finditer|findall|split)\b", source)
            if isinstance(value, re.Pattern):
                yield f"{module.__name__}.{name}", value, bool(searched)
            elif isinstance(value, list) and not name.startswith("__"):
                for number, item in enumerate(value):
                    item = item[0] if isinstance(item, tuple) else item
                    if isinstance(item, re.Pattern):
                        yield f"{module.__name__}.{name}[{number}]", item, True


def nodes(tree):
    """All nodes of a pattern, without negative assertions."""
    for node in tree:
        kind, content = node
        if kind is op.ASSERT_NOT:
            continue
        yield node
        if kind is op.BRANCH:
            for branch in content[1]:
                yield from nodes(branch)
        elif isinstance(content, (tuple, _parser.SubPattern)) and kind is not op.IN:
            for part in (content,) if isinstance(content, _parser.SubPattern) else content:
                if isinstance(part, _parser.SubPattern):
                    yield from nodes(part)


class Example:
    """A text that fits a pattern, apart from its assertions."""

    def __init__(self, tree, draw, pumped=None, branch=None, times=0):
        self.draw, self.pumped, self.branch, self.times, self.groups = draw, pumped, branch, times, {}
        self.text = self.of(tree)

    def of(self, tree):
        return "".join(map(self.node, tree))

    def node(self, node):
        kind, content = node
        if kind is op.LITERAL:
            return chr(content)
        if kind in (op.NOT_LITERAL, op.ANY):
            return self.draw.choice([c for c in "a5 " if kind is op.ANY or ord(c) != content])
        if kind is op.IN:
            return self.one_of(content)
        if kind is op.BRANCH:
            branches = [one for one in content[1] if one is self.branch] or content[1]
            return self.of(self.draw.choice(branches))
        if kind in REPEATS:
            low, high, body = content
            if node is self.pumped:
                return self.of(body) * min(self.times, high)
            return "".join(self.of(body) for _ in range(self.draw.randint(low, min(high, low + 1))))
        if kind is op.SUBPATTERN:
            text = self.groups[content[0]] = self.of(content[3])
            return text
        if kind is op.ATOMIC_GROUP:
            return self.of(content)
        return self.groups.get(content, "") if kind is op.GROUPREF else ""

    def one_of(self, items):
        if items[0][0] is op.NEGATE:
            fits = re.compile(f"[{''.join(map(re.escape, 'a5 .{'))}]").findall("a5 .{")
            banned = [self.one_of([item]) for item in items[1:] for _ in range(3)]
            return self.draw.choice([c for c in fits if c not in banned] or ["é"])
        kind, content = self.draw.choice(items)
        if kind is op.RANGE:
            return chr(self.draw.randint(*content))
        return CATEGORIES.get(content, "a") if kind is op.CATEGORY else chr(content)


def pumped(pattern):
    """(node, branch of an alternative in it, seed) of each text to try."""
    tree = _parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
    for node in nodes(tree):
        if node[0] in REPEATS and node[1][1] > 8:
            inside = [branch for kind, content in nodes(node[1][2]) if kind is op.BRANCH for branch in content[1]]
            for seed, branch in enumerate([None] * 4 + inside):
                yield tree, node, branch, seed


def seconds(pattern, searched, text):
    started = time.process_time()
    pattern.fullmatch(text)
    if searched:
        pattern.sub("", text)
    return time.process_time() - started


@pytest.fixture
def limited():
    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGPROF, stop)
    yield lambda limit_s: signal.setitimer(signal.ITIMER_PROF, limit_s)
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


PATTERNS = list(patterns())


def growth(pattern, searched, limited):
    """The texts of a pattern whose time grows too fast, with the times."""
    for tree, node, branch, seed in pumped(pattern):
        once = len(Example(tree, random.Random(seed), node, branch, 2).text) - len(
            Example(tree, random.Random(seed), node, branch, 1).text
        )
        times = []
        for chars in (CHARS, 2 * CHARS, 4 * CHARS):
            text = Example(tree, random.Random(seed), node, branch, chars // max(once, 1)).text + "\x01"
            try:
                limited(LIMIT_S)
                times.append(min(seconds(pattern, searched, text) for _ in range(2)))
            except TimeoutError:
                yield text[:60], [*times, LIMIT_S]
                break
            finally:
                limited(0)
            if times[0] < 1e-4:
                break
        else:
            if times[2] > 0.3 or times[2] > 0.01 and times[2] > 5.5 * times[1]:
                yield text[:60], times


@pytest.mark.parametrize(("name", "pattern", "searched"), PATTERNS, ids=[name for name, *_ in PATTERNS])
def test_doubling_a_text_never_more_than_quadruples_the_time(name, pattern, searched, limited):
    assert not list(growth(pattern, searched, limited))


def test_the_pump_finds_what_it_is_for(limited):
    assert next(growth(re.compile(r"(?:\s+(?:the|[a-z]{3}))*"), False, limited))
    assert next(growth(re.compile(r"a\s*b?\s*c?\s*d?"), True, limited))
    assert not list(growth(re.compile(r"(?:\s+[a-z]{3})*"), False, limited))
