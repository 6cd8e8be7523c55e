"""Olympus cellSens VSI."""
