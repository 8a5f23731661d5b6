"""What all tests share: reproducible hypothesis runs, pictures without a display, and the random calls (attention_problems)."""

import os
import signal
import sys
from pathlib import Path

import hypothesis

os.environ["MPLBACKEND"] = "Agg"
sys.path.insert(0, str(Path(__file__).parent))
# A shell's background job ignores it, and so would the programs that tests begin and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("reproducible", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("reproducible")
