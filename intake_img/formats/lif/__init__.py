"""Leica LIF, XLIF, LOF and XLEF."""
