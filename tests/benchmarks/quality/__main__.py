"""``python -m tests.benchmarks.quality``, see :mod:`tests.benchmarks.quality.command`."""

import sys

from tests.benchmarks.quality.command import main

if __name__ == "__main__":  # processes that train cells at once import this again
    sys.exit(main())
