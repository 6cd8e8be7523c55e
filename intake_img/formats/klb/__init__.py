"""Keller Lab Block, https://github.com/JaneliaSciComp/keller-lab-block-filetype, ``imageIO.h``."""
