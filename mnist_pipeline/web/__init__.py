"""Pages for a browser, and what serves them and the Dagster UI."""
