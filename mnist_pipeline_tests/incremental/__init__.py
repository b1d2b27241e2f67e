"""Tests of the engine `mnist_pipeline.incremental`, on a toy package that they copy and edit."""
