"""How often the state of long work is written."""

import time
from dataclasses import dataclass, field


@dataclass
class Pace:
    """When a state is due: some seconds after the last one, later where writing is slow.

    Writing takes at most a twentieth of the time; `took`: seconds of the last write.
    """

    last: float = field(default_factory=lambda: time.perf_counter())
    took: float = 0.0

    def due(self, seconds: float) -> bool:
        """Whether `seconds`, or twenty times what writing took, have passed; 0: always."""
        wait = max(seconds, 20 * self.took) if seconds else 0.0
        return time.perf_counter() - self.last > wait

    def written(self, began: float) -> None:
        """Restarts the clock after a write; `began`: when writing started (`perf_counter`)."""
        self.last = time.perf_counter()
        self.took = self.last - began
