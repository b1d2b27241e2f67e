"""The MNIST tutorial as a data pipeline.

`digits` is the domain and imports no Dagster; `assets` declares the steps; `definitions` builds
the pipeline with the engine `incremental`; `cli` and `web` are entry points.
"""
