"""The clock of every measurement: wall time, and the processor time of this process."""

from __future__ import annotations

import time


class Clock:
    """Started when made. On one thread, wall time beyond processor time went to other programs."""

    def __init__(self):
        self.cpu = time.process_time()
        self.wall = time.perf_counter()

    def read(self) -> tuple[float, float]:
        """Seconds by the wall and of the processor since the start."""
        wall = time.perf_counter() - self.wall
        return wall, time.process_time() - self.cpu
