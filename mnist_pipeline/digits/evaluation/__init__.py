"""Metrics, comparisons, and which model is promoted."""
