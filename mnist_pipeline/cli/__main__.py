"""`python -m mnist_pipeline.cli`."""

from mnist_pipeline.cli.main import main

main()
