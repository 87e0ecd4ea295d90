"""Outline vestibular schwannomas on T1ce + T2 MRI, and mend the outline where a reader clicks."""

__version__ = "0.1.0"
