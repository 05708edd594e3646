"""What takes too long for every run: with TEST_ALL_FAMILIES set it runs too."""

from __future__ import annotations

import os

import pytest

EVERYTHING = bool(os.environ.get("TEST_ALL_FAMILIES"))
on_demand = pytest.mark.skipif(not EVERYTHING, reason="TEST_ALL_FAMILIES is not set")
