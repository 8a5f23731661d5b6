"""What all tests share: reproducible hypothesis runs, pictures without a display, and the random calls (attention_problems)."""

import os
import signal
import sys
from pathlib import Path

import hypothesis

os.environ["MPLBACKEND"] = "Agg"
if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")):
    # No GPU, so kernels are interpreted. Triton looks at it when it is imported, which PyTorch may do before our tests.
    os.environ.setdefault("TRITON_INTERPRET", "1")
sys.path.insert(0, str(Path(__file__).parent))
# A shell's background job ignores it, and so would the programs that tests begin and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("reproducible", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("reproducible")
