"""The digits as arrays: data set, split, checks."""
