"""A day of joins and leaves under a clock that moves when told: what the minds of the programs weigh must stay the same.

    python bench/day.py                  24 simulated hours
    python bench/day.py --hours 2 --seed 4711

One engine and one client stay all day. Others come, work, and leave in all ways: by a word, killed, cut off, with tasks
under way. Every now and then, when nobody else is there, the controller's, the engine's and the client's state is weighed.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import types
from collections.abc import Iterable

from enginery.controller.recording import Recorder
from enginery.core.journal import Journal
from enginery.testing.clients import SimulatedClient
from enginery.testing.clock import Clock
from enginery.testing.connections import Connection, End
from enginery.testing.engines import SimulatedEngine, SimulatedNanny
from enginery.testing.history import History
from enginery.testing.simulation import Simulation
from enginery.testing.work import Work
from enginery.wire.messages import Options

#: Heartbeats of the simulation, in seconds, and how long somebody may be silent.
PERIOD, SILENCE = 10.0, 50.0
#: Visitors in an hour, and seconds from one to the next.
VISITS = 120
BETWEEN = 3600 / VISITS
#: What is not a mind: the simulation itself, and records, which have a budget of their own.
ELSEWHERE = (
    Simulation, SimulatedClient, SimulatedEngine, SimulatedNanny, Clock, Connection, End, History, Recorder, Journal,
    type, types.ModuleType, types.FunctionType, types.CodeType, types.FrameType,
)  # fmt: skip


def weight(roots: Iterable[object]) -> int:
    """Bytes of everything that can be reached from some objects without leaving the minds."""
    seen: set[int] = set()
    waiting = list(roots)
    total = 0
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, ELSEWHERE):
            continue
        seen.add(id(one))
        total += sys.getsizeof(one)
        waiting += gc.get_referents(one)
    return total


class Day:
    """A simulation in which visitors come and go."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.simulation = simulation = Simulation(seed, period=PERIOD, silence=SILENCE, patience=2 * PERIOD)
        self.engine = simulation.add_engine()
        self.client = simulation.add_client()
        simulation.run_until(lambda: self.engine.number >= 0 and self.client.number >= 0)

    def pass_hour(self, visits: int = VISITS) -> None:
        """Let an hour pass, or less, with all its visitors."""
        for _ in range(visits):
            self._visit()
        self.simulation.run_until(self.simulation.is_quiet)
        self.simulation.run(3 * SILENCE)  # until nobody is waited for any more

    def weigh(self) -> dict[str, int]:
        """What each mind weighs, in bytes."""
        simulation = self.simulation
        gc.collect()
        return {
            "controller": weight([vars(simulation._server)]),  # noqa: SLF001 - nobody else asks for it
            "engine": weight([self.engine.member]),
            "client": weight([self.client.requests]),
        }

    def _visit(self) -> None:
        simulation, chance = self.simulation, self.chance
        engines, client = simulation.add_engines(chance.randint(1, 3)), simulation.add_client()
        simulation.run(1.0)
        for each in (client, self.client):
            self._submit(each)
        simulation.run(chance.uniform(0.0, 2.0))
        for engine in engines:
            chance.choice([engine.die, lambda engine=engine: engine.leave("enough"), engine.connection.cut])()
        chance.choice([client.leave, client.vanish, client.connection.cut])()
        simulation.run(1.0)
        for each in (*engines, client):
            if each.is_alive:  # it was cut off, and does not come back
                (each.die if isinstance(each, SimulatedEngine) else each.vanish)()
        simulation.run(max(0.0, BETWEEN - 5.0))
        self._forget()

    def _submit(self, client: SimulatedClient) -> None:
        chance = self.chance
        if client.number < 0:
            return
        for _ in range(chance.randint(1, 20)):
            options = Options(retries=chance.choice([0, 1, 5]), label="visit") if chance.random() < 0.5 else None
            client.submit(Work(seconds=chance.choice([0.0, 0.01, 1.0])), options=options)
        client.request([engine.number for engine in self.simulation.engines if engine.number >= 0], Work())
        client.pump()

    def _forget(self) -> None:
        """The simulation's own notes are nobody's mind."""
        simulation = self.simulation
        simulation.history.__init__()  # type: ignore[misc]
        simulation.engines[:] = [each for each in simulation.engines if each.is_alive]
        simulation.clients[:] = [each for each in simulation.clients if each.is_alive]
        self.client.results.clear()


def run(hours: int, seed: int) -> list[dict[str, int]]:
    """What the minds weigh after each hour."""
    day = Day(seed)
    weights = []
    for hour in range(1, hours + 1):
        day.pass_hour()
        weights.append(day.weigh())
        print(f"hour {hour:>2}: {weights[-1]}", flush=True)
    return weights


def main() -> None:
    """Run it as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    run(chosen.hours, chosen.seed)


if __name__ == "__main__":
    main()
