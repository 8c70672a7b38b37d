"""How many images of shapes one core draws, labels and writes per second; the target is 50 at the default size.

python -m benchmarks.prepare_shapes        (83 per second of CPU time on an AMD EPYC core)
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from prepare.__main__ import main as prepare

COUNT = 400


def main() -> None:
    """Draw ``COUNT`` images in one process and print the rate."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        counts = ["--train", str(COUNT - 1), "--val", "1", "--workers", "1"]
        prepare(["shapes", "--root", str(Path(folder) / "shapes"), "--lists", str(Path(folder) / "lists"), *counts])
        seconds = time.process_time() - start
    sys.stdout.write(f"{COUNT / seconds:.0f} images per second of CPU time\n")


if __name__ == "__main__":
    main()
