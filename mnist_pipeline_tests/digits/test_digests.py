"""Content digests: the same content is the same version, any other content another."""

import numpy as np
import pytest

from mnist_pipeline.incremental.digest import Content, content_digest

NUMBERS = np.arange(6, dtype="<i4")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([NUMBERS], [NUMBERS.reshape(2, 3)]),
        ([NUMBERS], [NUMBERS.view("<u4")]),
        ([NUMBERS], [NUMBERS[::-1]]),
        ([NUMBERS], [NUMBERS.tobytes()]),
        (["ab", "c"], ["a", "bc"]),
        (["ab"], [b"ab"]),
        ([{"a": 1}], [{"a": 1.0}]),
        ([{"a": [1, 2]}], [{"a": [2, 1]}]),
        (["a"], ["a", ""]),
    ],
)
def test_other_content_has_another_digest(one: list[Content], other: list[Content]) -> None:
    assert content_digest(*one) != content_digest(*other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([NUMBERS], [NUMBERS.astype(">i4")]),
        ([np.asfortranarray(NUMBERS.reshape(2, 3))], [NUMBERS.reshape(2, 3)]),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}]),
    ],
)
def test_the_layout_in_memory_does_not_count(one: list[Content], other: list[Content]) -> None:
    assert content_digest(*one) == content_digest(*other)


def test_the_digest_is_32_hex_digits_and_stays_what_it_was() -> None:
    # a change here would make every artifact in every store stale
    assert content_digest(NUMBERS, "text", {"a": 1}) == "73b2c783fddb8668dc7141a7e79fcbc7"
