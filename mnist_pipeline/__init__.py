"""The MNIST tutorial as a data pipeline: two rooms and the doors to them.

`mnist_pipeline.digits` is what the digits need and imports no Dagster;
`mnist_pipeline.assets` declares the assets over it; `mnist_pipeline.definitions` and
`mnist_pipeline.cli` are the doors.
"""
