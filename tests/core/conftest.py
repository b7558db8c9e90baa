"""How many examples hypothesis draws: HYPOTHESIS_PROFILE=deep for a long run, else what a test run has time for."""

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("deep", max_examples=1_000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
