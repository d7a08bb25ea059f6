"""Functions of every kind on real engines: the engine's globals come first, and what a function needs comes along."""

from __future__ import annotations

import functools
import math
import operator
import sys

import numpy as np
import pytest

import enginery as ipp

PATIENCE = 30
pytestmark = pytest.mark.slow

FACTOR = 10


class Point:
    """A class of this file."""

    def __init__(self, x, y) -> None:
        self.x, self.y = x, y

    def __eq__(self, other) -> bool:
        return (self.x, self.y) == (other.x, other.y)

    def __hash__(self) -> int:
        return hash((self.x, self.y))

    def moved(self, by):
        return Point(self.x + by, self.y + by)

    @classmethod
    def origin(cls):
        return cls(0, 0)

    @staticmethod
    def name():
        return "point"

    def __call__(self, z):
        return (self.x, self.y, z)


def scaled(x):
    return FACTOR * x


def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


def counted(n):
    yield from range(n)


@pytest.fixture
def script(tmp_path, cluster):
    """Run source text as a user's script, in a process whose ``__main__`` it is; what it prints."""

    def run(text):
        import json
        import subprocess

        path = tmp_path / "script.py"
        info = json.dumps(cluster.client.link.info.to_dict())
        path.write_text(
            f"import enginery as ipp\nrc = ipp.Client({info})\ndv, lv = rc[:], rc.load_balanced_view()\n{text}"
        )
        done = subprocess.run(
            [sys.executable, str(path)], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.stderr == ""
        return done.stdout

    return run


class TestOfThisFile:
    def test_functions_with_helpers_and_constants(self, lv):
        assert lv.apply_sync(scaled, 4) == 40
        assert lv.apply_sync(fibonacci, 10) == 55
        assert lv.apply_sync(lambda x: scaled(x) + FACTOR, 1) == 20

    def test_closures(self, lv):
        base = 5

        def add(x):
            return base + x

        assert lv.apply_sync(add, 1) == 6
        base = 6
        assert lv.apply_sync(add, 1) == 7

    def test_nested_and_recursive(self, lv):
        def factorial(n):
            return n * factorial(n - 1) if n else 1

        def compose(f, g):
            return lambda x: f(g(x))

        assert lv.apply_sync(factorial, 5) == 120
        assert lv.apply_sync(compose(scaled, abs), -3) == 30

    def test_functions_as_arguments_and_results(self, lv):
        assert lv.apply_sync(lambda f, x: f(f(x)), lambda x: x + 1, 1) == 3
        assert lv.apply_sync(lambda: lambda x: x * 3)(2) == 6

    def test_classes_and_their_instances(self, lv):
        point = Point(1, 2)
        assert lv.apply_sync(point.moved, 3) == Point(4, 5)
        assert lv.apply_sync(Point.origin) == Point(0, 0)
        assert lv.apply_sync(Point.name) == "point"
        assert lv.apply_sync(Point, 7, 8) == Point(7, 8)
        assert lv.apply_sync(point, 3) == (1, 2, 3)
        assert type(lv.apply_sync(point.moved, 0)) is Point
        assert lv.map_sync(operator.attrgetter("x"), [Point(n, 0) for n in range(4)]) == [0, 1, 2, 3]

    def test_local_classes(self, lv):
        class Local:
            value = 5

            def get(self):
                return self.value

        assert lv.apply_sync(lambda: Local().get()) == 5
        assert lv.apply_sync(Local().get) == 5

    def test_partials_builtins_and_ufuncs(self, lv):
        assert lv.apply_sync(functools.partial(pow, 2), 5) == 32
        assert lv.apply_sync(functools.partial(scaled, x=3)) == 30
        assert lv.apply_sync(math.factorial, 5) == 120
        assert lv.apply_sync("{} {}".format, 1, 2) == "1 2"
        assert np.array_equal(lv.apply_sync(np.add, np.arange(3), 1), [1, 2, 3])

    def test_defaults_and_keywords(self, lv):
        def call(a, b=2, *rest, c, d=FACTOR, **more):
            return a, b, rest, c, d, more

        assert lv.apply_sync(call, 1, c=3) == (1, 2, (), 3, 10, {})
        assert lv.apply_sync(call, 1, 4, 5, c=3, e=6) == (1, 4, (5,), 3, 10, {"e": 6})

    def test_async_functions(self, lv):
        async def later(x):
            import asyncio

            await asyncio.sleep(0)
            return x + 1

        assert lv.apply_sync(later, 1) == 2
        assert lv.map_sync(later, range(3)) == [1, 2, 3]

    def test_decorated_ones(self, lv):
        @functools.cache
        def cached(x):
            return x + 1

        assert lv.apply_sync(cached, 1) == 2

    def test_the_same_name_with_another_body(self, lv):
        results = []
        for n in range(3):
            exec_globals = {}
            exec(f"def f(): return {n}", exec_globals)
            results.append(lv.apply_sync(exec_globals["f"]))
        assert results == [0, 1, 2]

    def test_hundreds_of_different_functions(self, lv):
        def make(n):
            return lambda: n

        functions = [make(n) for n in range(1200)]
        assert [ar.get(PATIENCE) for ar in [lv.apply_async(f) for f in functions]] == list(range(1200))
        assert lv.apply_sync(functions[0]) == 0


class TestOfAScript:
    def test_the_engine_s_globals_come_first(self, script):
        assert script("""
a = "client"
def get(): return a
print(dv.apply_sync(get))
dv.push({"a": "engine"}, block=True)
print(dv.apply_sync(get))
a = "changed"
print(dv.apply_sync(get))
dv.clear(block=True)
print(dv.apply_sync(get))
""").split("\n") == [
            "['client', 'client']",
            "['engine', 'engine']",
            "['engine', 'engine']",
            "['changed', 'changed']",
            "",
        ]

    def test_global_statements_write_to_the_engine(self, script):
        assert (
            script("""
def count():
    global n
    n += 1
    return n
dv.push({"n": 10}, block=True)
dv.apply_sync(count)
print(dv.apply_sync(count), dv["n"], dv.apply_sync(lambda: n))
""")
            == "[12, 12] [12, 12] [12, 12]\n"
        )

    def test_classes_helpers_and_modules_come_along(self, script):
        assert (
            script("""
import math
from collections import Counter
class Shape:
    def __init__(self, r): self.r = r
    def area(self): return round(PI * self.r ** 2, 2)
class Circle(Shape):
    def area(self): return "circle of " + str(super().area())
PI = math.pi
def helper(shape): return shape.area()
def work(r): return helper(Circle(r)), Counter("aab")["a"], math.floor(2.5)
print(lv.apply_sync(work, 1))
back = lv.apply_sync(lambda r: Circle(r), 2)
print(type(back) is Circle, back.area())
print(lv.map_sync(lambda s: s.area(), [Circle(1), Circle(2)], chunksize=2))
""")
            == "('circle of 3.14', 2, 2)\nTrue circle of 12.57\n['circle of 3.14', 'circle of 12.57']\n"
        )

    def test_names_the_engine_has_and_the_client_has_not(self, script):
        assert (
            script("""
dv.execute("import json\\nsecret = 5\\ndef f(x): return x + secret", block=True)
print(dv.apply_sync(lambda: f(json.loads("1"))))
""")
            == "[6, 6]\n"
        )

    def test_a_function_without_what_it_needs(self, script):
        assert (
            script("""
import sys
sys.tracebacklimit = 0
try:
    dv.apply_sync(lambda: nobody_has_this)
except ipp.CompositeError as error:
    print("nobody_has_this" in str(error))
""")
            == "True\n"
        )

    def test_the_end_of_a_script_with_an_open_client(self, script):
        assert (
            script("""
results = [lv.apply_async(len, "x" * n) for n in range(1000)]
results[0].add_done_callback(lambda _: None)
lazy = lv.imap(abs, iter(int, 1))
next(lazy)
print("end")
""")
            == "end\n"
        )

    def test_the_end_of_a_script_by_an_error_or_exit(self, script):
        assert (
            script("""
ar = lv.apply_async(__import__("time").sleep, 0.2)
import sys
print("end", flush=True)
sys.exit(0)
""")
            == "end\n"
        )


def test_interactive_and_required_things(lv, dv):
    @ipp.interactive
    def mine():
        return value  # noqa: F821 - pushed

    dv.push({"value": 3}, block=True)
    assert dv.apply_sync(mine) == [3, 3]


def test_generators_are_named_when_they_cannot_be_sent(lv):
    with pytest.raises(ipp.SerializationError, match="argument 1.*generator"):
        lv.apply_async(list, counted(3))
    assert lv.apply_sync(list, range(3)) == [0, 1, 2]
