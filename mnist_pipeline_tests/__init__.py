"""Tests of mnist_pipeline. Each says in one sentence what it promises."""
