"""Registers the marker of the laws that take long, wherever they are run."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes seconds for each driver; leave out with -m 'not slow'")
