"""Tests of intake_img."""
