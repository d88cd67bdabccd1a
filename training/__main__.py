"""``python -m training`` is ``smner-train``, for launchers such as torchrun."""

import sys

from training.cli.train import main

sys.exit(main())
