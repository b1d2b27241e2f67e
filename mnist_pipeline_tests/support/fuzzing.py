"""A coverage-guided fuzzer for the ARFF reader and the preparation of pictures; not part of CI.

`make fuzz` runs it. What it finds goes to `corpus` and stays a test.
"""

import sys

import atheris

with atheris.instrument_imports(include=["mnist_pipeline"]):
    from mnist_pipeline_tests.support import hostile


def main() -> None:
    """Fuzz what the first argument names; the others are libFuzzer's."""
    kind = sys.argv.pop(1)
    atheris.Setup(sys.argv, lambda data: hostile.fuzz(kind, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
