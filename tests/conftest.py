"""What all tests share: reproducible hypothesis runs, and pictures without a display."""

import os

import hypothesis

os.environ["MPLBACKEND"] = "Agg"

hypothesis.settings.register_profile("reproducible", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("reproducible")
