"""The ARFF reader: what the format allows is read, anything else is refused with its line."""

import numpy as np
import pytest

from mnist_pipeline.digits.data.table import DigitTable
from mnist_pipeline.digits.sources.archive import Archive
from mnist_pipeline.digits.sources.formats import decode
from mnist_pipeline.incremental.errors import FormatError
from mnist_pipeline_tests.conftest import HEADER, archive

FIRST_ROW = HEADER.count(b"\n") + 1


def arff(rows: list[bytes], header: bytes = HEADER, end: bytes = b"\n") -> Archive:
    return archive(header + end.join(rows) + end)


@pytest.fixture(scope="module")
def expected(rows: list[bytes]) -> DigitTable:
    numbers = np.array([[int(value) for value in row.split(b",")] for row in rows])
    return DigitTable(numbers[:, :-1].astype("u1"), numbers[:, -1].astype("u1"), "openml")


def assert_same(found: DigitTable, expected: DigitTable) -> None:
    assert found.pixels.dtype == found.labels.dtype == np.uint8
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_rows_are_decoded_to_the_numbers_that_they_spell(
    rows: list[bytes], expected: DigitTable
) -> None:
    assert_same(decode(arff(rows)), expected)


@pytest.mark.parametrize(
    "spelled",
    [
        pytest.param(lambda rows: arff(rows, end=b"\r\n"), id="CRLF"),
        pytest.param(
            lambda rows: arff([b"% a comment, with commas", b"", *rows, b"\t% end"]), id="comments"
        ),
        pytest.param(lambda rows: archive(HEADER + b"\n".join(rows)), id="no last line end"),
        pytest.param(
            lambda rows: arff([*rows[:9], b"% long " + b"x," * 300_000, *rows[9:]]),
            id="long comment",
        ),
        pytest.param(
            lambda rows: arff(
                [row + b" % a comment" for row in rows],
                HEADER.replace(b" real\n", b" real % ink\n").replace(b"@DATA", b"@DATA % rows"),
            ),
            id="comments behind",
        ),
        pytest.param(
            lambda rows: arff(
                rows,
                HEADER.replace(b"mnist_784", b"'it\\'s 100%, 1'"),
            ),
            id="odd names",
        ),
        pytest.param(lambda rows: arff(rows, b"% caf\xe9\n" + HEADER), id="comment in Latin-1"),
        pytest.param(lambda rows: arff([row.replace(b",", b", ") for row in rows]), id="a space"),
        pytest.param(lambda rows: arff([row.replace(b",", b" ,\t") for row in rows]), id="spaces"),
        pytest.param(
            lambda rows: arff(rows, HEADER.lower().replace(b"{0,1,", b"{ '0', \"1\" ,")),
            id="letter case and quoted class values",
        ),
        pytest.param(
            lambda rows: arff(
                rows,
                b"% by hand\n"
                + HEADER.replace(b"pixel1 real", b"'PIXEL1'\tNUMERIC").replace(
                    b"class", b'"Class"'
                ),
            ),
            id="quoted names",
        ),
    ],
)
def test_every_spelling_that_arff_allows_gives_the_same_digits(
    spelled: object, rows: list[bytes], expected: DigitTable
) -> None:
    assert_same(decode(spelled(rows)), expected)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"256", "'256'"),
        (b"-1", "'-1'"),
        (b"1.5", "'1.5'"),
        (b"5.0", "'5.0'"),
        (b"", "''"),
        (b"?", r"'\?'"),
        (b"abc", "'abc'"),
        (b"1 2", "'1 2'"),
        (b"'7'", r"\"'7'\""),
        (b"0x5", "'0x5'"),
        (b"0" * 5000 + b"256", "'0000"),
        (b"\xff", "'ÿ'"),
    ],
)
def test_a_value_that_is_no_pixel_is_refused_with_its_line_and_column(
    value: bytes, found: str, rows: list[bytes]
) -> None:
    bad = rows[7].split(b",")
    bad[3] = value
    expected = "expected an integer from 0 to 255 as pixel4"
    with pytest.raises(
        FormatError, match=f"arff.gz, line {FIRST_ROW + 7}: {expected}, found {found}"
    ):
        decode(arff([*rows[:7], b",".join(bad), *rows[8:]]))


def test_the_line_of_an_error_counts_comments_and_blank_lines(rows: list[bytes]) -> None:
    with pytest.raises(FormatError, match=f"line {FIRST_ROW + 4}: .* found '-5'"):
        decode(arff([b"% one", b"", rows[0], b"%", b"-5" + rows[1][1:]]))


@pytest.mark.parametrize(
    ("last_row", "message"),
    [
        (lambda row: row[:-1] + b"10", "expected an integer from 0 to 9 as class, found '10'"),
        (lambda row: row + b",1", "expected 784 pixels and a class, found 786 values"),
        (lambda row: row[:-2], "expected 784 pixels and a class, found 784 values"),
        (lambda row: b"{0 5, 784 3}", "expected 784 pixels and a class, found 2 values"),
        (lambda row: b"1," * 10_000_000, "expected 784 pixels and a class, found 10000001 values"),
        (lambda row: row + b"\r" + row, "expected 784 pixels and a class, found 1569 values"),
    ],
)
def test_a_row_that_is_no_digit_is_refused_with_its_line(
    last_row: object, message: str, rows: list[bytes]
) -> None:
    bad = last_row(rows[-1])  # type: ignore[operator]
    with pytest.raises(FormatError, match=f"line {FIRST_ROW + len(rows) - 1}: {message}"):
        decode(arff([*rows[:-1], bad]))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", r"line 1: expected @RELATION, @ATTRIBUTE \.\.\., @DATA, found '0,0"),
        (HEADER.replace(b"@DATA\n", b""), "line 789: expected @RELATION, .* found '0,0"),
        (HEADER.replace(b"@DATA", b"\xef\xbb\xbf@DATA"), "line 789: expected @RELATION"),
        (HEADER.replace(b"pixel5 ", b"pixelx "), "line 7: expected @ATTRIBUTE pixel5 numeric"),
        (
            HEADER.replace(b"pixel5 real", b"pixel5 string"),
            "line 7: expected @ATTRIBUTE pixel5 numeric",
        ),
        (HEADER.replace(b"{0,1,", b"{1,"), "line 787: expected @ATTRIBUTE class {0,1,2"),
        (HEADER.replace(b"{0,1,", b"{0,0,1,"), "line 787: expected @ATTRIBUTE class {0,1,2"),
        (HEADER.replace(b"@DATA", b"@DATA 1,2,3"), "line 789: expected .* found '@DATA 1,2,3'"),
        (
            HEADER.replace(b"@ATTRIBUTE class {0,1,2,3,4,5,6,7,8,9}\n", b""),
            "expected 784 pixel attributes",
        ),
        (HEADER.decode().encode("utf-16"), "line 1: expected @RELATION"),
    ],
)
def test_a_header_that_is_not_that_of_mnist_is_refused(
    header: bytes, message: str, rows: list[bytes]
) -> None:
    with pytest.raises(FormatError, match=message):
        decode(arff(rows, header))


@pytest.mark.parametrize("body", [[], [b""], [b"% nothing"]])
def test_a_file_without_rows_is_refused(body: list[bytes]) -> None:
    with pytest.raises(FormatError, match="expected rows of digits, found none"):
        decode(arff(body))


def test_a_header_without_data_ends_in_an_error() -> None:
    with pytest.raises(FormatError, match="expected @DATA"):
        decode(archive(HEADER.partition(b"@DATA")[0]))


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"no gzip" + data])
def test_an_archive_that_is_cut_or_no_gzip_is_refused(damage: object, rows: list[bytes]) -> None:
    whole = arff(rows)
    with pytest.raises(FormatError, match="is not a whole gzip file"):
        decode(Archive(damage(whole.data), whole.filename))  # type: ignore[operator]
