"""What all tests share: reproducible hypothesis runs, pictures without a display, and the random calls (attention_problems)."""

import os
import sys
from pathlib import Path

import hypothesis

os.environ["MPLBACKEND"] = "Agg"
sys.path.insert(0, str(Path(__file__).parent))

hypothesis.settings.register_profile("reproducible", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("reproducible")
