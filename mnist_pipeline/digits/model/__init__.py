"""Fitting, calibrating, storing and applying the classifier."""
