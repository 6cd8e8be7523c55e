"""The laws, over every driver that is installed."""

from __future__ import annotations

from typing import Any

import pytest

from intake_img.formats.registry import formats
from intake_img.formats.source import ImageSource
from intake_img.testing.laws import DriverLaws


class TestInstalledDrivers(DriverLaws):
    @pytest.fixture(scope="class", params=list(formats()))
    @classmethod
    def driver(cls, request: Any) -> type[ImageSource]:
        return formats()[request.param].source
