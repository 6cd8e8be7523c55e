"""MRC and CCP4."""
