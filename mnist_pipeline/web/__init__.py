"""Pages for a browser: the drawing page, and what serves it and the Dagster UI."""
