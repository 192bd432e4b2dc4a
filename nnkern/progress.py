"""The progress of a training: a tqdm bar where that is installed and standard error is a terminal, else plain lines."""

import sys
import time

# seconds between two plain lines
_PERIOD = 2.0


class Progress:
    """Shows epochs done, cost, score and time left on standard error."""

    def __init__(self, epochs, score_name):
        self._epochs, self._score_name = epochs, score_name
        self._begun = self._shown = time.monotonic()
        self._bar = None
        if sys.stderr is not None and sys.stderr.isatty():
            try:
                import shutil

                from tqdm import tqdm
            except ImportError:
                pass
            else:
                # a terminal that doesn't know its width says 0 columns
                narrow = shutil.get_terminal_size().columns < 20
                self._bar = tqdm(total=epochs, unit="epoch", file=sys.stderr, dynamic_ncols=not narrow)

    def update(self, done, history):
        """After the epoch number `done`, counted from 1."""
        if sys.stderr is None:
            return
        values = {"cost": history["cost"][-1]}
        for prefix in ("", "val_"):
            if history.get(f"{prefix}score"):
                values[f"{prefix}{self._score_name}"] = history[f"{prefix}score"][-1]
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()}, refresh=False)
            self._bar.update(1)
            return
        now = time.monotonic()
        if done == self._epochs or done == 1 or now - self._shown >= _PERIOD:
            self._shown = now
            left = (now - self._begun) / done * (self._epochs - done)
            shown = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
            print(f"epoch {done}/{self._epochs}  {shown}  {left:.0f} s left", file=sys.stderr, flush=True)

    def close(self):
        """At the end, however it came."""
        if self._bar is not None:
            self._bar.close()
