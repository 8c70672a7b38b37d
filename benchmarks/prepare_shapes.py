"""How many shapes pictures a second one core draws, writes and labels; the claim is 50 at the default size.

python -m benchmarks.prepare_shapes        (83 a second of CPU time on an AMD EPYC core)
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from prepare.__main__ import main as prepare

COUNT = 400


def main() -> None:
    """Draw ``COUNT`` pictures in one process and print the rate."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        counts = ["--train", str(COUNT - 1), "--val", "1", "--workers", "1"]
        prepare(["shapes", "--root", str(Path(folder) / "shapes"), "--lists", str(Path(folder) / "lists"), *counts])
        seconds = time.process_time() - start
    sys.stdout.write(f"{COUNT / seconds:.0f} pictures a second of CPU time\n")


if __name__ == "__main__":
    main()
