"""A real browser for pages; without one the test is skipped, and says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("browser", Path(__file__).with_name("browser.py"))
browser = importlib.util.module_from_spec(spec)
spec.loader.exec_module(browser)


@pytest.fixture
def page():
    program = browser.find_chromium()
    if program is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    opened = browser.Page(program)
    yield opened
    opened.close()
