"""A script's functions, classes and errors in another process that has never seen the script."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from enginery.descriptions import describe_exception
from enginery.wire.callables import unpack_function
from enginery.wire.serialize import pack, unpack_call

SOURCE = Path(__file__).parents[2] / "src"

SCRIPT = """
import dataclasses, enum, pickle, sys
import collections.abc as shapes
from enginery.wire.callables import pack_function
from enginery.wire.serialize import pack_call, unpack

factor = 3

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    colour: Colour = Colour.RED
    def scaled(self): return Point(self.x * factor)

def helper(point):
    return point.scaled()

def use(point):
    return helper(point), shapes.Sized, pushed

def fail(x):
    y = x - x
    return 1 / y  # the trouble

packed = {f.__name__: pack_function(f).body for f in (use, fail)}
packed["call"] = pack_call((Point(5),), {"key": Colour.RED})
pickle.dump(packed, sys.stdout.buffer)
sys.stdout.flush()
answer = unpack(*pickle.load(sys.stdin.buffer))
assert answer == [Point(15), Colour.RED] and type(answer[0]) is Point, answer
print("same classes", file=sys.stderr)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "users_script.py"
    path.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    yield process, path
    process.kill()
    process.communicate()


def test_functions_and_values_of_a_script(script):
    process, path = script
    packed = pickle.load(process.stdout)
    path.unlink()  # as on another host
    namespace = {"__name__": "__main__", "pushed": 7}

    use = unpack_function(packed["use"], namespace)
    args, kwargs = unpack_call(*packed["call"], namespace)
    point, sized, pushed = use(*args)
    assert (point.x, pushed, sized.__name__) == (15, 7, "Sized")
    assert type(point) is type(args[0]) is namespace["Point"]
    assert kwargs["key"] is point.colour is type(point.colour).RED

    fail = unpack_function(packed["fail"], namespace)
    try:
        fail(3)
    except ZeroDivisionError as error:
        _, _, text = describe_exception(error)
    assert "users_script.py" in text
    assert "return 1 / y  # the trouble" in text

    _, told = process.communicate(pickle.dumps(pack([point, kwargs["key"]])))
    assert b"same classes" in told, told.decode()
