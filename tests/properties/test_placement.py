"""Whatever happens to engines, a scheme picks open ones only, and the right one."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enginery.core.engines import EngineRecord
from enginery.core.placement import SCHEMES
from enginery.wire.messages import EngineInfo, Task

TASK = Task(0, 0, b"", b"")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["open", "close"]), st.integers(0, 5), st.integers(0, 4)),
        st.tuples(st.just("pick"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@pytest.mark.parametrize("name", SCHEMES)
@given(steps=STEPS)
def test_a_scheme_is_like_its_model(name, steps):
    engines = [EngineRecord(EngineInfo(number, "uuid", 1, "host"), 0.0) for number in range(6)]
    scheme = SCHEMES[name](Random(7))
    open_since, picked = {}, {}
    for at, (step, number, load) in enumerate(steps):
        engine = engines[number]
        if step == "pick":
            if not open_since:
                continue
            choice = scheme.pick().info.id
            assert choice in open_since
            if name == "leastload":
                assert engines[choice].load == min(engines[one].load for one in open_since)
            elif name in {"lru", "pure"}:
                assert choice == min(open_since, key=lambda one: max(open_since[one], picked.get(one, -1)))
            picked[choice] = at
            continue
        engine.balanced = dict.fromkeys(range(load), TASK)
        if step == "open":
            scheme.open(engine)
            open_since.setdefault(number, at)
        else:
            scheme.close(engine)
            open_since.pop(number, None)
        # A load that changes is told by `open`, as the dealer does for each engine it has touched.
        for other in open_since:
            scheme.open(engines[other])
        assert len(scheme) == len(open_since)
