"""Tests of the engine, which know nothing of digits."""
