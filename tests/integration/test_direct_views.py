"""DirectView and BroadcastView on real engines: every public walk."""

from __future__ import annotations

import os

import numpy as np
import pytest

import enginery as ipp
from enginery.client.execute_reply import ExecuteReply

PATIENCE = 30
pytestmark = pytest.mark.slow


def double(x):
    return 2 * x


@pytest.fixture(params=["direct_view", "broadcast_view"])
def view(rc, request):
    return getattr(rc, request.param)()


class TestApply:
    def test_all_engines_in_the_order_of_targets(self, rc, view):
        pids = view.apply_sync(os.getpid)
        assert len(set(pids)) == 2
        assert rc[[1, 0]].apply_sync(os.getpid) == pids[::-1]
        assert rc[0].apply_sync(os.getpid) == pids[0]
        assert rc[-1].apply_sync(os.getpid) == pids[1]
        assert rc[1:].apply_sync(os.getpid) == pids[1:]

    def test_with_arguments_of_both_kinds(self, view):
        assert view.apply_sync(lambda a, *more, k=0: (a, more, k), 1, 2, 3, k=4) == [(1, (2, 3), 4)] * 2

    def test_block_decides_what_apply_gives(self, rc, view):
        assert isinstance(view.apply(double, 2), ipp.AsyncResult)
        view.block = True
        assert view.apply(double, 2) == [4, 4]
        with view.temp_flags(block=False):
            assert view.apply(double, 2).get() == [4, 4]
        assert view.with_flags(block=False).apply(double, 3).get() == [6, 6]

    def test_the_same_engine_twice(self, rc):
        assert rc[[0, 0, 1]].apply_sync(lambda: engine_id) == [0, 0, 1]  # noqa: F821 - the engine's

    def test_order_of_requests_is_kept_for_each_engine(self, rc, view):
        view.push({"seen": []}, block=True)
        for n in range(200):
            view.apply_async(lambda n: seen.append(n), n)  # noqa: F821 - the engine's
        assert view["seen"] == [list(range(200))] * 2


class TestData:
    def test_push_and_pull(self, view):
        assert view.push({"a": 1, "b": [2, 3]}, block=True) == [None, None]
        assert view.pull("a", block=True) == [1, 1]
        assert view.pull(["a", "b"], block=True) == [[1, [2, 3]]] * 2
        assert view.pull("a + b[1]").get() == [4, 4]
        assert view.get("b") == [[2, 3]] * 2

    def test_as_a_mapping(self, rc, view):
        view["x"] = 5
        assert view["x"] == [5, 5]
        rc[0]["x"] = 6
        assert view["x"] == [6, 5]
        view.update({"y": 1}).get()
        assert rc[1]["y"] == 1

    def test_dotted_names_set_attributes(self, view):
        view.execute("class C: pass\nc = C()", block=True)
        view["c.value"] = 3
        assert view["c.value"] == [3, 3]

    def test_what_is_not_there(self, rc, view):
        with pytest.raises(ipp.CompositeError, match="NameError: name 'nothing' is not defined"):
            view["nothing"]
        with pytest.raises(ipp.RemoteError, match="NameError"):
            rc[0]["nothing"]
        with pytest.raises(TypeError):
            "nothing" in view  # noqa: B015 - must raise

    def test_clear_forgets_what_was_set_and_nothing_else(self, view):
        view["x"] = 5
        assert view.clear(block=True) == [None, None]
        with pytest.raises(ipp.CompositeError, match="NameError"):
            view["x"]
        assert view["engine_id"] == [0, 1]

    @pytest.mark.parametrize("dist", ["b", "r"])
    @pytest.mark.parametrize(
        "data", [list(range(7)), tuple(range(7)), "abcdefg", range(7), np.arange(7.0), np.arange(14).reshape(7, 2)]
    )
    def test_scatter_and_gather(self, view, data, dist):
        view.scatter("part", data, dist=dist, block=True)
        sizes = view.apply_sync(lambda: len(part))  # noqa: F821 - the engine's
        assert sizes == [4, 3]
        back = view.gather("part", dist=dist, block=True)
        assert list(map(str, back)) == list(map(str, data))
        if isinstance(data, np.ndarray):
            assert np.array_equal(back, data)

    def test_scatter_flattens_parts_of_one_item(self, view):
        view.scatter("one", [10, 20], flatten=True).get()
        assert view["one"] == [10, 20]
        view.scatter("few", [10])
        assert view["few"] == [[10], []]

    def test_arrays_arrive_whole_and_writable(self, view):
        for array in (np.arange(10), np.arange(100_000.0), np.asfortranarray(np.ones((300, 300))), np.zeros(0)):
            view["array"] = array
            assert view.apply_sync(lambda: array.flags.writeable) == [True, True]
            view.execute("array += 1", block=True)
            for back in view["array"]:
                assert np.array_equal(back, array + 1)
                assert back.flags.writeable
                assert back.flags.f_contiguous == array.flags.f_contiguous

    def test_references_mean_what_each_engine_has(self, rc, view):
        view.scatter("n", [3, 4], flatten=True, block=True)
        assert view.apply_sync(double, ipp.Reference("n")) == [6, 8]
        assert view.apply_sync(sum, [ipp.Reference("n"), ipp.Reference("n * 10")]) == [33, 44]
        view.execute("def triple(x): return 3 * x", block=True)
        assert view.apply_sync(ipp.Reference("triple"), 5) == [15, 15]


class TestSource:
    def test_execute(self, view):
        result = view.execute("a = 6 * 7", block=True)
        assert all(isinstance(reply, ExecuteReply) for reply in result.get())
        assert view["a"] == [42, 42]

    def test_execute_raises_when_it_blocks(self, rc, view):
        with pytest.raises(ipp.CompositeError, match="ZeroDivisionError"):
            view.execute("1/0", block=True)
        with pytest.raises(ipp.RemoteError, match="SyntaxError"):
            rc[0].execute("1 +", block=True)
        assert isinstance(view.execute("1/0").exception(), ipp.CompositeError)

    def test_execute_on_some(self, view):
        view.execute("only = 1", targets=1, block=True)
        assert view.pull("'only' in globals()", block=True) == [False, True]

    def test_functions_defined_by_source_are_the_engines_own(self, view):
        view.execute("def f(): return counter\ncounter = 1", block=True)
        assert view.apply_sync(ipp.Reference("f")) == [1, 1]
        (f, _) = view["f"]
        assert f.__name__ == "f"

    def test_run_a_file(self, view, tmp_path):
        path = tmp_path / "script.py"
        path.write_text("import math\nresult = math.factorial(5)\nif True:\n    inside = 'yes'")
        view.run(path, block=True)
        assert view.pull(["result", "inside"], block=True) == [[120, "yes"]] * 2
        with pytest.raises(FileNotFoundError):
            view.run(tmp_path / "nothing.py")

    def test_imports_are_mirrored(self, view):
        with view.sync_imports(quiet=True):
            import fractions  # noqa: F401
            from decimal import Decimal  # noqa: F401
        assert view.pull("str(fractions.Fraction(1, 2)) + str(Decimal(3))", block=True) == ["1/23"] * 2


class TestMaps:
    def test_order_and_shares(self, view):
        assert view.map_sync(double, range(7)) == [2 * x for x in range(7)]
        result = view.map_async(lambda x: engine_id, range(4))  # noqa: F821 - the engine's
        assert list(result) == [0, 0, 1, 1]
        assert len(result) == 4

    def test_several_sequences_the_shortest_decides(self, view):
        assert view.map_sync(pow, [2, 3, 4], [5, 6]) == [32, 729]
        assert view.map_sync(lambda *a: a, "ab", iter("xyz")) == [("a", "x"), ("b", "y")]

    def test_fewer_items_than_engines_and_none(self, view):
        assert view.map_sync(double, [1]) == [2]
        assert view.map_sync(double, []) == []

    def test_errors(self, view):
        with pytest.raises(ipp.CompositeError, match="ZeroDivisionError"):
            view.map_sync(lambda x: 1 / x, [1, 0, 2, 3])
        values = view.map_sync(lambda x: 1 / x, [1, 0, 2, 4], return_exceptions=True)
        assert values[0] == 1.0
        assert isinstance(values[1], ipp.RemoteError)
        assert values[1].ename == "ZeroDivisionError"
        assert values[2:] == [0.5, 0.25]


class TestDecorators:
    def test_remote(self, rc, view):
        @view.remote(block=True)
        def where(x):
            return (engine_id, x)  # noqa: F821 - the engine's

        assert where("a") == [(0, "a"), (1, "a")]
        assert where.__name__ == "where"

        @ipp.remote(rc[0])
        def one():
            return 1

        assert one().get() == 1

    def test_parallel(self, view):
        @view.parallel(block=True)
        def squares(values):
            return [value**2 for value in values]

        assert squares(range(9)) == [n**2 for n in range(9)]
        assert squares.map([[1], [2, 3]]) == [[1], [4, 9]]


class TestSettings:
    def test_use_cloudpickle_and_back(self, dv):
        try:
            dv.use_cloudpickle().get()
            assert dv.apply_sync(double, 4) == [8, 8]
            assert dv.map_sync(lambda x: x + 1, range(4)) == [1, 2, 3, 4]
        finally:
            dv.use_pickle().get()
        assert dv.apply_sync(double, 5) == [10, 10]

    def test_targets_that_are_not_there(self, rc):
        with pytest.raises(IndexError, match=r"7.*0, 1|7.*\[0, 1\]"):
            rc[7]
        with pytest.raises(IndexError, match="7"):
            rc[0].apply_async(double, 1) and rc.direct_view([0, 7])
        with pytest.raises(IndexError):
            rc[:].push({"a": 1}, targets=9)
        with pytest.raises(TypeError, match="no target"):
            rc.direct_view("some")

    def test_pre_pickled_values_are_sent_as_often_as_wanted(self, view):
        value = ipp.PrePickled({"a": np.arange(5000)})
        for _ in range(3):
            assert view.apply_sync(lambda v: int(v["a"].sum()), value) == [12497500] * 2
