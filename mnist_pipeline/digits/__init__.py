"""What the digits need: download, decode, split, fit, measure, draw. No Dagster in this room.

Every module is plain typed Python that can be used from a notebook.
"""
