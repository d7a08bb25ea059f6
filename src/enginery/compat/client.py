"""What ``from IPython.kernel import client`` gave: the two clients, tasks, and what they return."""

from __future__ import annotations

from enginery.compat.multiengine import MultiEngineClient
from enginery.compat.pending import PendingResult, ResultList
from enginery.compat.taskclient import MapTask, StringTask, Task, TaskClient, TaskResult

__all__ = [
    "MapTask",
    "MultiEngineClient",
    "PendingResult",
    "ResultList",
    "StringTask",
    "Task",
    "TaskClient",
    "TaskResult",
]
