"""The assets, one step a module: take inputs, call `mnist_pipeline.digits`, publish."""
