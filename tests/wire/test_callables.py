"""Functions as bytes: the engine's globals come first, and what a function needs comes along."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import inspect
import linecache
import operator
import sys
import textwrap
import threading
import traceback
import weakref
from types import ModuleType

import numpy as np
import pytest

from enginery.errors import SerializationError
from enginery.wire import callables
from enginery.wire.callables import PackedFunction, pack_function, unpack_function
from enginery.wire.importable import goes_by_reference, is_importable
from enginery.wire.reference import Reference
from enginery.wire.serialize import pack, unpack, use_cloudpickle, use_pickle


class Main:
    """A user's ``__main__``: a notebook in which cells are run."""

    def __init__(self):
        self.module = ModuleType("__main__")
        self.names = vars(self.module)
        self._cells = 0

    def run(self, source):
        self._cells += 1
        text = textwrap.dedent(source).lstrip("\n")
        name = f"<cell {id(self)} {self._cells}>"
        linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        exec(compile(text, name, "exec"), self.names)
        return self

    def __getitem__(self, name):
        return self.names[name]


class Engine:
    """A namespace in which functions run, as an engine keeps it."""

    def __init__(self, **pushed):
        self.names = {"__name__": "__main__", "__builtins__": __builtins__, **pushed}
        self.functions = {}

    def load(self, function):
        packed = pack_function(function)
        if packed.digest not in self.functions:
            self.functions[packed.digest] = unpack_function(packed.body, self.names)
        return self.functions[packed.digest]

    def apply(self, function, *args, **kwargs):
        return self.load(function)(*args, **kwargs)

    def user_names(self):
        return {name for name in self.names if not name.startswith("__")}


@pytest.fixture
def main(monkeypatch):
    made = Main()
    monkeypatch.setitem(sys.modules, "__main__", made.module)
    return made


@pytest.fixture
def engine():
    return Engine()


# --- the engine's globals ------------------------------------------------------------------------------------------


def test_a_function_reads_what_was_pushed():
    assert Engine(a=1).apply(lambda: a) == 1  # noqa: F821


def test_a_name_that_nobody_has_is_a_name_error(main, engine):
    main.run("def f(): return a")
    with pytest.raises(NameError, match="'a'"):
        engine.apply(main["f"])
    engine.names["a"] = 3
    assert engine.apply(main["f"]) == 3


def test_global_writes_into_the_namespace(main, engine):
    main.run(
        """
        def f():
            global x
            x = 5
        """
    )
    engine.apply(main["f"])
    assert engine.names["x"] == 5
    assert "x" not in main.names


def test_global_continues_from_call_to_call(main, engine):
    main.run(
        """
        count = 10
        def f():
            global count
            count += 1
            return count
        """
    )
    assert [engine.apply(main["f"]) for _ in range(3)] == [11, 12, 13]
    assert main["count"] == 10


def test_del_global(main, engine):
    main.run(
        """
        def f():
            global x
            del x
        """
    )
    engine.names["x"] = 1
    engine.apply(main["f"])
    assert "x" not in engine.names


def test_helpers_come_along(main, engine):
    main.run(
        """
        import math
        import os.path
        factor = 2
        def inner(x): return x * factor
        def outer(x): return inner(x) + math.floor(0.5)
        def f(x): return outer(x), os.path.basename("a/b")
        """
    )
    assert engine.apply(main["f"], 4) == (8, "b")


def test_what_is_not_referred_to_stays_at_home(main, engine):
    main.run("used = 1\nunused = 2\ndef f(): return used")
    engine.apply(main["f"])
    assert engine.user_names() == {"used"}


def test_a_pushed_name_beats_a_carried_one(main):
    main.run("a = 1\ndef g(): return 'client'\ndef f(): return a, g()")
    engine = Engine(a=2, g=lambda: "engine")
    assert engine.apply(main["f"]) == (2, "engine")
    assert engine.names["a"] == 2


def test_a_name_pushed_later_beats_a_carried_one(main, engine):
    main.run("a = 1\ndef f(): return a")
    assert engine.apply(main["f"]) == 1
    engine.names["a"] = 5
    assert engine.apply(main["f"]) == 5
    main.run("a = 2")
    assert engine.apply(main["f"]) == 5


def test_a_carried_name_follows_the_client(main, engine):
    main.run("a = 1\ndef g(): return 'old'\ndef f(): return a, g()")
    assert engine.apply(main["f"]) == (1, "old")
    main.run("a = 2\ndef g(): return 'new'")
    assert engine.apply(main["f"]) == (2, "new")


def test_a_carried_name_follows_the_client_back(main, engine):
    main.run("a = 1\ndef f(): return a")
    for value in (1, 2, 1, 2):
        main.names["a"] = value
        assert engine.apply(main["f"]) == value
    assert len(engine.functions) == 2


def test_a_name_defined_later_on_the_client_is_carried_then(main, engine):
    main.run("def f(): return late()")
    with pytest.raises(NameError):
        engine.apply(main["f"])
    main.run("def late(): return 1")
    assert engine.apply(main["f"]) == 1


def test_functions_that_carry_different_values_do_not_disturb_each_other(main, engine):
    main.run("a = 1\ndef f(): return a")
    first = engine.load(main["f"])
    main.run("a = 2\ndef g(): return a")
    second = engine.load(main["g"])
    assert [first(), second(), first(), second()] == [1, 2, 1, 2]


def test_carried_names_come_back_after_the_namespace_was_cleared(main, engine):
    main.run("a = 1\ndef f(): return a")
    engine.apply(main["f"])
    engine.names.clear()
    assert engine.apply(main["f"]) == 1


def test_what_engines_did_to_a_carried_object_stays(main, engine):
    main.run(
        """
        seen = {}
        def note(word): seen[word] = True
        def words(): return sorted(seen)
        """
    )
    engine.apply(main["note"], "a")
    engine.apply(main["note"], "b")
    assert engine.apply(main["words"]) == ["a", "b"]
    main["seen"]["c"] = True
    assert engine.apply(main["words"]) == ["c"], "changed on the client: the client's contents hold"


def test_one_engine_does_not_know_of_another(main):
    main.run("a = 1\ndef f(): return a")
    first, second = Engine(), Engine(a=7)
    assert (first.apply(main["f"]), second.apply(main["f"])) == (1, 7)


def test_the_engine_keeps_its_module_name(main, engine):
    main.run("def f(): return __name__, __doc__")
    engine.names["__doc__"] = "mine"
    assert engine.apply(main["f"]) == ("__main__", "mine")


def test_callbacks_in_arguments_see_the_namespace_too(main):
    main.run("a = 1\ndef callback(): return a, b")
    engine = Engine(b=2)
    head, buffers = pack([main["callback"]])
    (callback,) = unpack(head, buffers, engine.names)
    assert callback() == (1, 2)
    assert callback.__globals__ is engine.names


# --- kinds of functions --------------------------------------------------------------------------------------------


def test_functions_of_importable_modules_go_by_name():
    for function in (textwrap.dedent, functools.reduce, operator.add, len, np.mean, str.upper, dict.fromkeys, np.sin):
        packed = pack_function(function)
        assert len(packed.body) < 100
        assert unpack_function(packed.body, {}) == function


def test_closures(engine):
    def make(start):
        total = start

        def add(x):
            nonlocal total
            total += x
            return total

        return add

    add = engine.load(make(10))
    assert [add(1), add(2)] == [11, 13]


def test_functions_that_share_a_variable_share_it_over_there():
    def make():
        value = 0

        def put(x):
            nonlocal value
            value = x

        def get():
            return value

        return put, get

    put, get = unpack(*pack(make()), {})
    put(5)
    assert get() == 5


def test_functions_that_call_themselves(main, engine):
    main.run(
        """
        def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
        def make():
            def countdown(n): return [n, *countdown(n - 1)] if n else []
            return countdown
        def even(n): return n == 0 or odd(n - 1)
        def odd(n): return n != 0 and even(n - 1)
        """
    )
    assert engine.apply(main["factorial"], 5) == 120
    assert engine.apply(main["make"](), 3) == [3, 2, 1]
    assert engine.apply(main["even"], 10) is True


def test_variables_that_are_not_assigned_yet(engine):
    def make():
        def f():
            return later

        if engine is None:
            later = 1
        return f

    with pytest.raises(NameError, match="later"):
        engine.apply(make())


def test_decorated_functions(main, engine):
    main.run(
        """
        import functools
        def twice(f):
            @functools.wraps(f)
            def wrapper(*args, **kwargs):
                return f(*args, **kwargs), f(*args, **kwargs)
            return wrapper
        @twice
        def g(x):
            "doc of g"
            return x + 1
        """
    )
    again = engine.load(main["g"])
    assert again(1) == (2, 2)
    assert again.__doc__ == "doc of g"
    assert inspect.unwrap(again)(1) == 2


def test_everything_about_a_function_is_kept(engine):
    def f(a: int, b: str = "x", *, c: float = 2.0) -> list:
        """What f does."""
        return [a, b, c]

    f.mark = {"k": 1}
    again = unpack_function(pack_function(f).body, {})
    assert again(1) == [1, "x", 2.0]
    assert inspect.signature(again) == inspect.signature(f)
    assert (again.__doc__, again.__name__, again.__qualname__) == (f.__doc__, f.__name__, f.__qualname__)
    assert again.__annotations__ == f.__annotations__
    assert again.mark == {"k": 1}
    assert again.__code__.co_filename == f.__code__.co_filename
    assert again.__code__.co_firstlineno == f.__code__.co_firstlineno


def test_coroutines_and_generators(main, engine):
    main.run(
        """
        a = 2
        async def later(x): return x * a
        def several(n): yield from range(n * a)
        async def stream(n):
            for i in range(n): yield i
        """
    )
    assert asyncio.run(engine.apply(main["later"], 3)) == 6
    assert list(engine.apply(main["several"], 2)) == [0, 1, 2, 3]
    assert inspect.isasyncgen(engine.apply(main["stream"], 2))


def test_lambdas_as_defaults(engine):
    def f(x, key=lambda y: -y, *, other=lambda y: y * 2):
        return key(x), other(x)

    assert engine.apply(f, 3) == (-3, 6)


def test_methods_of_instances_and_classes(main, engine):
    main.run(
        """
        offset = 10
        class Adder:
            start = 1
            def __init__(self, n): self.n = n
            def add(self, x): return self.n + x + self.start + offset
            @classmethod
            def make(cls, n): return cls(n).n
            @staticmethod
            def static(x): return x
            @property
            def double(self): return 2 * self.n
            def __call__(self, x): return self.add(x)
        class Child(Adder):
            def add(self, x): return super().add(x) + 1000
        """
    )
    adder, child = main["Adder"](5), main["Child"](5)
    assert engine.apply(adder.add, 1) == 17
    assert engine.apply(child.add, 1) == 1017
    assert engine.apply(adder, 1) == 17
    assert engine.apply(main["Adder"].make, 3) == 3
    assert engine.apply(main["Adder"].static, 3) == 3
    assert engine.apply(main["Adder"], 3).double == 6
    engine.names["offset"] = 0
    assert engine.apply(adder.add, 1) == 7, "methods see the namespace as well"


def test_partials_and_operators(main, engine):
    main.run("def f(a, b): return a - b")
    assert engine.apply(functools.partial(main["f"], b=1), 5) == 4
    assert engine.apply(functools.partial(functools.partial(main["f"], 5), 3)) == 2
    assert engine.apply(operator.itemgetter(1), [1, 2]) == 2
    assert engine.apply(np.add, 1, 2) == 3
    assert engine.apply("abc".upper) == "ABC"


def test_cached_functions(main, engine):
    main.run(
        """
        import functools
        @functools.lru_cache(maxsize=3)
        def square(x): return x * x
        @functools.cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        class Lazy:
            @functools.cached_property
            def value(self): return 5
        def f(): return square(3), fib(30), Lazy().value
        """
    )
    assert engine.apply(main["square"], 4) == 16
    assert engine.apply(main["fib"], 30) == 832040
    assert engine.apply(main["f"]) == (9, 832040, 5)
    assert engine.apply(textwrap.dedent, " x") == "x"


def test_references_as_functions():
    engine = Engine(f=lambda x: x + 1)
    reference = Reference("f")
    assert engine.apply(reference, 1) == 2
    engine.names["f"] = lambda x: x + 2
    assert engine.apply(reference, 1) == 3, "looked up at each call"
    assert pack_function(reference).name == "f"


def test_types_of_main(main, engine):
    main.run(
        """
        import collections, dataclasses, enum, typing, abc
        Pair = collections.namedtuple("Pair", "a b")
        class Typed(typing.NamedTuple):
            a: int
            b: int = 2
        class Colour(enum.Enum):
            RED = 1
            def shout(self): return self.name + "!"
        @dataclasses.dataclass
        class Point:
            x: int
            tags: list = dataclasses.field(default_factory=list)
        class Base(abc.ABC):
            @abc.abstractmethod
            def f(self): ...
        class Real(Base):
            __slots__ = ("v",)
            def __init__(self): self.v = 3
            def f(self): return self.v
        def f(): return Pair(1, 2).b, Typed(1).b, Colour.RED.shout(), Point(1), Point(1).tags, Real().f(), Colour(1)
        """
    )
    pair, typed, shout, point, tags, real, colour = engine.apply(main["f"])
    assert (pair, typed, shout, tags, real) == (2, 2, "RED!", [], 3)
    assert point == main["Point"](1)
    assert colour is main["Colour"].RED
    assert engine.user_names() == {"Pair", "Typed", "Colour", "Point", "Real"}, "and nothing besides"


def test_modules_that_only_the_client_has(main, engine, monkeypatch):
    module = ModuleType("only_here")
    exec("k = 3\ndef helper(x): return x + k\ndef f(x): return helper(x)", vars(module))
    monkeypatch.setitem(sys.modules, "only_here", module)
    assert engine.apply(module.f, 1) == 4
    main.names["only_here"] = module
    main.run("def g(x): return only_here.f(x)")
    assert engine.apply(main["g"], 1) == 4


def test_lambdas_of_importable_modules_are_at_home_there(tmp_path, monkeypatch):
    (tmp_path / "a_library.py").write_text("setting = 1\nget = lambda: setting\nmissing = lambda: (pushed, setting)\n")
    monkeypatch.syspath_prepend(tmp_path)
    library = importlib.import_module("a_library")
    try:
        engine = Engine(setting=99, pushed=5)
        get = engine.load(library.get)
        assert get() == 1
        library.setting = 2
        assert get() == 2
        assert engine.apply(library.missing) == (5, 99), "a name its module lacks must be the namespace's"
        assert engine.user_names() == {"setting", "pushed"}
    finally:
        del sys.modules["a_library"]


def test_two_modules_that_use_one_name_for_different_things(main, engine, monkeypatch):
    module = ModuleType("other")
    exec("def helper(): return 'theirs'\ndef f(): return helper()", vars(module))
    monkeypatch.setitem(sys.modules, "other", module)
    main.names["theirs"] = module.f
    main.run("def helper(): return 'mine'\ndef f(): return helper(), theirs()")
    assert engine.apply(main["f"]) == ("mine", "theirs")


def test_functions_made_by_exec(engine):
    names = {"a": 1}
    exec("def f(): return a + b", names)
    engine.names["b"] = 2
    assert engine.apply(names["f"]) == 3


def test_functions_from_the_engine_go_back_by_value(main):
    engine = Engine()
    exec("k = 4\ndef f(x): return x * k\nclass C:\n    def m(self): return f(1)", engine.names)
    head, buffers = pack([engine.names["f"], engine.names["C"]()])
    function, instance = unpack(head, buffers)
    assert function(2) == 8
    assert instance.m() == 4
    assert "k" not in main.names


# --- classes keep their identity -----------------------------------------------------------------------------------


def test_a_class_is_the_same_in_every_message(main, engine):
    main.run("class P: pass\ndef make(): return P()\ndef check(p): return isinstance(p, P)")
    made = engine.apply(main["make"])
    (again,) = unpack(*pack([main["P"]()]), engine.names)
    assert type(again) is type(made)
    assert engine.apply(main["check"], again)


def test_the_clients_own_class_is_not_touched_by_what_comes_back(main, engine):
    main.run("class P:\n    def m(self): return helper()\ndef helper(): return 1\ndef make(): return P()")
    method = main["P"].m
    head, buffers = pack(engine.apply(main["make"]))
    assert isinstance(unpack(head, buffers), main["P"])
    assert main["P"].m is method


# --- caching -------------------------------------------------------------------------------------------------------


def counting(monkeypatch):
    packed = []
    original = callables._pack
    monkeypatch.setattr(callables, "_pack", lambda function, name: packed.append(name) or original(function, name))
    return packed


@pytest.mark.parametrize("name", ["plain", "with_helper", "recursive", "closure", "uses_class", "defaults"])
def test_functions_are_packed_once(main, monkeypatch, name):
    main.run(
        """
        import math
        limit = 3
        class Point:
            def __init__(self, x): self.x = x
        def helper(x): return x * limit
        def plain(x): return x
        def with_helper(x): return helper(x) + math.pi
        def recursive(n): return recursive(n - 1) if n else len(str(n))
        def make(n):
            def closure(x): return helper(x) + n
            return closure
        closure = make(4)
        def uses_class(x): return Point(x)
        def defaults(x, y=(1, "a"), *, z=helper): return z(x)
        """
    )
    packed = counting(monkeypatch)
    first = pack_function(main[name])
    assert pack_function(main[name]) is first
    assert len(packed) == 1


@pytest.mark.parametrize(
    "change",
    [
        "limit = 4",
        "def deep(x): return x + 2",
        "f.__defaults__ = (5,)",
        "f.__kwdefaults__['z'] = 5",
        "f.__code__ = (lambda x, y=1, *, z=1: 0).__code__",
        "f.note = 1",
        "len = lambda x: 5",
        "Point.shift = 3",
        "Point.move = lambda self: 4",
        "bag.append(1)",
    ],
)
def test_a_change_is_noticed(main, change):
    main.run(
        """
        limit = 3
        bag = []
        class Point:
            shift = 1
            def move(self): return self.shift
        def deep(x): return x + 1
        def helper(x): return deep(x) * limit + len(str(x))
        def f(x, y=1, *, z=1): return helper(x) + y + z + Point().move()
        def g(x): return len(bag)
        """
    )
    function = "g" if "bag" in change else "f"
    before = pack_function(main[function])
    assert pack_function(main[function]).digest == before.digest
    main.run(change)
    assert pack_function(main[function]).digest != before.digest


def test_a_changed_closure_is_noticed():
    def make():
        value = 1

        def get():
            return value

        def put(x):
            nonlocal value
            value = x

        return get, put

    get, put = make()
    before = pack_function(get)
    put(2)
    assert pack_function(get).digest != before.digest
    assert unpack_function(pack_function(get).body, {})() == 2


def test_packing_again_gives_the_same_digest(main):
    main.run("settings = {'a': [1, 2]}\nclass C: pass\ndef f(): return settings, C, h\nh = lambda: f")
    assert len({pack_function(main["f"]).digest for _ in range(5)}) == 1


def test_the_cache_keeps_nothing_alive(main):
    main.run(
        """
        class Local: pass
        def helper(): return Local
        def f(): return f, helper
        """
    )
    pack_function(main["f"])
    watched = [weakref.ref(main[name]) for name in ("f", "helper", "Local")]
    key = id(main["f"])
    main.names.clear()
    gc.collect()
    assert [reference() for reference in watched] == [None] * 3
    assert key not in callables._cache


def test_equal_functions_have_equal_digests():
    first, second = (PackedFunction(b"body", "f") for _ in range(2))
    assert first == second
    assert len({first, second}) == 1
    assert len(first.digest) == 16
    assert "f" in repr(first)


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="cannot be called"):
        pack_function(5)


def test_what_cannot_be_sent_stays_at_home(main, engine):
    main.names["lock"] = threading.Lock()
    main.run("a = 1\ndef inner(): return lock, a\ndef f(): return inner()")
    packed = pack_function(main["f"])
    assert pack_function(main["f"]) is packed
    with pytest.raises(NameError, match="'lock'") as caught:
        engine.apply(main["f"])
    assert "exists on the client, but it could not be sent: cannot pickle '_thread.lock'" in caught.value.__notes__[0]
    engine.names["lock"] = "the engine's"
    assert engine.apply(main["f"]) == ("the engine's", 1)
    main.names["lock"] = 5
    assert engine.apply(main["f"]) == ("the engine's", 1)


def test_helpers_that_cannot_be_sent_stay_at_home(main, engine):
    main.names["lock"] = threading.Lock()
    main.run(
        """
        def make():
            kept = lock
            return lambda: kept
        helper = make()
        class Thing:
            def __init__(self): self.lock = lock
            def use(self): return thing
        thing = Thing()
        def f(): return helper()
        def g(): return thing
        """
    )
    for name in ("f", "g"):
        with pytest.raises(NameError) as caught:
            engine.apply(main[name])
        assert "cannot pickle '_thread.lock'" in caught.value.__notes__[0]


def test_large_data_stays_at_home(main, engine):
    main.names["data"] = np.ones(10_000_000)
    main.names["text"] = "x" * 10_000_000
    main.run("def f(): return data.sum()\ndef g(): return text")
    packed = pack_function(main["f"])
    assert len(packed.body) < 1000
    assert pack_function(main["f"]) is packed
    with pytest.raises(NameError) as caught:
        engine.apply(main["f"])
    assert "80.0 MB" in caught.value.__notes__[0]
    engine.names["data"] = np.ones(3)
    assert engine.apply(main["f"]) == 3
    assert len(pack_function(main["g"]).body) < 1000


def test_what_became_too_large_is_not_served_out_of_date(main, engine):
    main.names["data"] = [1]
    main.run("def f(): return data")
    assert engine.apply(main["f"]) == [1]
    main.names["data"] = list(range(3_000_000))
    with pytest.raises(NameError):
        engine.apply(main["f"])
    main.names["data"] = [1]
    assert engine.apply(main["f"]) == [1]


def test_modules_that_the_engine_lacks_are_missed_when_used(main, engine, monkeypatch, tmp_path):
    (tmp_path / "only_on_client.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    main.run("import only_on_client\ndef f(use): return only_on_client.x if use else 0")
    body = pack_function(main["f"]).body
    monkeypatch.delitem(sys.modules, "only_on_client")
    sys.path.remove(str(tmp_path))
    function = unpack_function(body, engine.names)
    assert function(use=False) == 0
    with pytest.raises(NameError) as caught:
        function(use=True)
    assert "No module named 'only_on_client'" in caught.value.__notes__[0]


def test_what_belongs_to_the_session_is_not_carried(main, engine):
    main.names["get_ipython"] = lambda: "the client's"
    main.run("def f(): return get_ipython()")
    engine.names["get_ipython"] = lambda: "the engine's"
    assert engine.apply(main["f"]) == "the engine's"
    assert "the client's" not in str(pack_function(main["f"]).body)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("f = lambda x=lock: x", "default 1"),
        ("f = (lambda x: lambda: x)(lock)", "its variable 'x'"),
        ("f = functools.partial(print, lock)", "argument 1"),
        ("class C:\n    def m(self): pass\nc = C()\nc.lock = lock\nf = c.m", "its object (a C), attribute 'lock'"),
    ],
)
def test_the_error_names_what_cannot_be_sent(main, source, words):
    main.names.update(lock=threading.Lock(), functools=functools)
    main.run(source)
    with pytest.raises(SerializationError) as caught:
        pack_function(main["f"])
    assert f", {words}: cannot pickle '_thread.lock'" in str(caught.value)
    assert "function '" in str(caught.value)


def test_tracebacks_show_source_lines_that_the_engine_does_not_have(main, engine):
    main.run(
        """
        def helper(x):
            # a comment before the trouble
            return 1 / x

        def f():
            return helper(0)
        """
    )
    function = engine.load(main["f"])
    for name in [name for name in linecache.cache if name.startswith("<cell")]:
        del linecache.cache[name]  # as in another process
    function = unpack_function(pack_function(main["f"]).body, engine.names)
    try:
        function()
    except ZeroDivisionError:
        text = traceback.format_exc()
    assert "return helper(0)" in text
    assert "return 1 / x" in text


def test_source_lines_of_files_that_the_engine_does_not_have(main, engine):
    name = "/nowhere/at/all/script.py"
    source = "x = 1\n\ndef f():\n    raise ValueError(x)\n\ndef g():\n    return f()\n"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), main.names)
    bodies = [pack_function(main[each]).body for each in "fg"]
    del linecache.cache[name]
    for body in bodies:
        function = unpack_function(body, engine.names)
    try:
        function()
    except ValueError:
        text = traceback.format_exc()
    assert "return f()" in text
    assert "raise ValueError(x)" in text


def test_another_python_is_refused(main, engine, monkeypatch):
    main.run("def f(): pass")
    body = pack_function(main["f"]).body
    monkeypatch.setattr("enginery.wire.code.MAGIC_NUMBER", b"xxxx")
    with pytest.raises(SerializationError, match="different versions of Python"):
        unpack_function(body, engine.names)


def test_other_libraries_can_take_over(main, engine):
    main.run("a = 1\ndef f(): return a")
    use_cloudpickle()
    try:
        body = pack_function(main["f"]).body
    finally:
        use_pickle()
    assert unpack_function(body, engine.names)() == 1
    assert engine.user_names() == set()


# --- what can be imported ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["json", "os.path", "numpy.linalg", "builtins", "sys", "importlib", "pytest", "_thread"]
)
def test_modules_that_can_be_imported(name):
    importlib.import_module(name)
    assert is_importable(sys.modules[name].__name__)


@pytest.mark.parametrize("name", ["__main__", "nowhere.at.all", "made_up"])
def test_modules_that_cannot_be_imported(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "made_up", ModuleType("made_up"))
    assert not is_importable(name)


def test_a_module_under_anothers_name_is_not_it(monkeypatch, tmp_path):
    path = tmp_path / "json.py"
    path.write_text("def f(): pass")
    spec = importlib.util.spec_from_file_location("json", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "json", module)
    assert not goes_by_reference(module.f)


def test_modules_registered_with_cloudpickle_go_by_value():
    import cloudpickle

    assert goes_by_reference(textwrap.dedent)
    cloudpickle.register_pickle_by_value(textwrap)
    try:
        assert not goes_by_reference(textwrap.dedent)
        assert len(pack(textwrap.dedent)[0]) > 500
    finally:
        cloudpickle.unregister_pickle_by_value(textwrap)
