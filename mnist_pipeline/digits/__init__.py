"""The domain: download, decode, split, fit, evaluate, report. It imports no Dagster.

Every module is plain typed Python that can be used in a notebook.
"""
