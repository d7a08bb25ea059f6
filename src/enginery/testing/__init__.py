"""For tests: a clock that moves when told, faults by seed, a whole cluster in memory, and a small real one."""
