"""The option ``--seeds``: one run each."""

from __future__ import annotations

from clickseg.config import ConfigError


def read_seeds(text: str) -> list[int]:
    """Read numbers with commas between.

    Raises:
        ConfigError: if they are none.
    """
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ConfigError(f"--seeds is like 1,2,3, each once, got {text!r}")
    return numbers
