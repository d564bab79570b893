import gzip
import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sentiment.errors import UserError
from sentiment.text.vectors import read_vectors
from tests.conftest import FUZZ_EXAMPLES

VOCABULARY = {"<pad>": 0, "<unk>": 1, "the": 2, "café": 3, "zzz": 4}
LINES = "the 0.418 0.25 -0.4\nof 1 2 3\ncafé 1e-1 -2 .5\n".encode()
VALUES = [[0.418, 0.25, -0.4], [0.1, -2, 0.5]]


def write(path: Path, content: bytes, name: str = "vectors.txt") -> Path:
    file = path / name
    file.write_bytes(content)
    return file


def zipped(**contents: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def glove_zip() -> bytes:
    """Laid out as the official glove.6B.zip."""
    numbers = {f"glove.6B.{n}d.txt": b"the" + b" 0.5" * n + b"\n" for n in (50, 100, 200, 300)}
    return zipped(**numbers)


@pytest.mark.parametrize(
    ("content", "dimension"),
    [
        pytest.param(LINES, None, id="GloVe"),
        pytest.param(LINES, 3, id="dimension given"),
        pytest.param(LINES[:-1], None, id="no newline at the end"),
        pytest.param(LINES.replace(b"\n", b"\r\n"), None, id="CRLF"),
        pytest.param(b"3 3\n" + LINES, None, id="word2vec"),
        pytest.param(b"3 3\n" + LINES.replace(b"\n", b" \n"), 3, id="fastText"),
        pytest.param(gzip.compress(LINES), None, id="gzip"),
        pytest.param(gzip.compress(b"3 3\n" + LINES), None, id="fastText gzip"),
        pytest.param(zipped(**{"wiki.vec": b"3 3\n" + LINES}), 3, id="zip of one"),
        pytest.param(LINES + b". . . 7 8 9\nat name@x.org 1 2 3\n", None, id="words with spaces"),
        pytest.param(b". . . 7 8 9\n" + LINES, None, id="first word with spaces"),
        pytest.param(b". . 7 8 9\n" + LINES, 3, id="first word with spaces, dimension given"),
        pytest.param(LINES + b"\xff\xfe 1 2 3\n\x85 1 2 3\n", None, id="words that are not UTF-8"),
        pytest.param(LINES + "the 9 9 9\ncafé 9 9 9\n".encode(), None, id="duplicates"),
    ],
)
def test_every_format_gives_the_vocabularys_vectors(
    tmp_path: Path, content: bytes, dimension: int | None
) -> None:
    vectors = read_vectors(write(tmp_path, content), VOCABULARY, dimension)
    assert vectors.found_V.tolist() == [False, False, True, True, False]
    np.testing.assert_allclose(vectors.values_VE[2:4], VALUES, rtol=1e-6)
    assert (vectors.values_VE[[0, 1, 4]] == 0).all()


def test_a_word_with_spaces_has_the_last_numbers(tmp_path: Path) -> None:
    file = write(tmp_path, LINES + b". . . 7 8 9\n")
    vectors = read_vectors(file, VOCABULARY | {". . .": 5}, 3)
    assert vectors.values_VE[5].tolist() == [7, 8, 9]


def test_the_dimension_chooses_the_file_of_the_official_zip(tmp_path: Path) -> None:
    file = write(tmp_path, glove_zip(), "glove.6B.zip")
    for dimension in (50, 100, 200, 300):
        values_VE = read_vectors(file, VOCABULARY, dimension).values_VE
        assert values_VE.shape == (5, dimension)
        assert (values_VE[2] == 0.5).all()


def test_coverage_counts_words_and_their_occurrences(tmp_path: Path) -> None:
    vectors = read_vectors(write(tmp_path, LINES), VOCABULARY, dimension=3)
    coverage = vectors.coverage(np.array([1, 2, 2, 3, 4, 1], dtype=np.int32))
    assert coverage["embeddings/vocabulary_coverage"] == pytest.approx(2 / 3)
    assert coverage["embeddings/token_coverage"] == pytest.approx(3 / 4)


WORD2VEC_BINARY = b"2 3\n" + b"".join(
    word + b" " + struct.pack("<3f", 0.5, -1, 2) + b"\n" for word in (b"the", b"of")
)
MEMBERS = r"glove\.6B\.50d\.txt, glove\.6B\.100d\.txt, .*glove\.6B\.300d\.txt"


@pytest.mark.parametrize(
    ("content", "dimension", "message"),
    [
        (b"the 1 2 3\nof 1 2\n", None, r"line 2: 2 numbers after the word, expected 3"),
        (b"the 1 2 3\nof 1 2 3 4\n", None, r"line 2: 4 numbers"),
        (b"the 1 2 3\n\nof 1 2 3\n", None, r"line 2: 0 numbers"),
        (b"the 1 2 3\n", 50, r"line 1: 3 numbers.*expected 50.*embeddings\.dimension"),
        (b"the 1 2 3\n", 2, r"line 1: 3 numbers.*expected 2.*embeddings\.dimension"),
        (b"1 3\nthe 1 2 3\n", 2, r"line 1: vectors of 3 numbers, expected 2.*embeddings\.dim"),
        (b"2 3\nthe 1 2 3\nof 1 2\n", None, r"line 3: 2 numbers"),
        (b"3 3\nthe 1 2 3\n", None, r"ends after 1 of the 3 words"),
        (b"of 1 2\nthe 1 x\n", None, r"line 2: the vector of 'the'"),
        (b"the 1 nan\n", None, r"line 1: the vector of 'the'"),
        (b"the 1 -inf\n", None, r"line 1: the vector of 'the'"),
        (b"the 1 1e39\n", None, r"line 1: the vector of 'the'"),
        (b"of 1 2\nthe 1 \xff\n", None, r"line 2: the vector of 'the'"),
        (b"the\n", None, r"line 1: expected a word and its numbers"),
        (b"2 0\nthe\n", None, r"line 1: expected a word and its numbers"),
        (b"what a film\n", None, r"line 1: expected a word and its numbers"),
        (b"x" * 1_000_000, None, r"line 1: expected a word and its numbers"),
        (b"", None, r"is empty"),
        (gzip.compress(b""), None, r"is empty"),
        (b"der 1 2\n", None, r"no vector for any of the 5 words"),
        (WORD2VEC_BINARY, None, r"is binary, expected.*load_word2vec_format\(BIN, binary=True\)"),
        (gzip.compress(WORD2VEC_BINARY), None, r"is binary"),
        (LINES.decode().encode("utf-16"), 3, r"is binary"),
        (gzip.compress(LINES)[:-9], None, r"cannot read .*end-of-stream.*delete it, then download"),
        (gzip.compress(LINES)[:5], None, r"cannot read .*delete it, then download"),
        (glove_zip()[:-30], 100, r"cannot read .*not a zip file.*delete it, then download"),
        (glove_zip().replace(b"the", b"\x01\x02\x03"), 17, rf"{MEMBERS}: .*dimension=17"),
        (glove_zip(), None, rf"holds {MEMBERS}: embeddings\.dimension=null"),
        (zipped(readme=b"hello"), 100, r"holds no \.txt or \.vec file"),
        (zipped(), 100, r"holds no \.txt or \.vec file"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, content: bytes, dimension: int | None, message: str
) -> None:
    file = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as refusal:
        read_vectors(file, VOCABULARY, dimension)
    assert str(file) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_zip_with_a_flipped_byte_is_refused(tmp_path: Path) -> None:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("wiki.vec", LINES)
    damaged = stored.getvalue().replace(b"of 1 2 3", b"of 1 2 4")
    with pytest.raises(UserError, match=r"cannot read .*CRC.*delete it, then download"):
        read_vectors(write(tmp_path, damaged), VOCABULARY, None)


@pytest.mark.parametrize(("name", "found"), [("none.txt", "does not exist"), ("", "is a folder")])
def test_a_missing_file_or_a_folder_is_refused(tmp_path: Path, name: str, found: str) -> None:
    with pytest.raises(UserError, match=rf"embeddings\.path: {tmp_path / name} {found}; expected"):
        read_vectors(tmp_path / name, VOCABULARY, None)


line = st.lists(
    st.sampled_from([b"the", b"caf\xc3\xa9", b"1", b"-2.5e3", b"nan", b"", b"\xff", b"9" * 400])
)
near_vectors = st.lists(line.map(b" ".join)).map(b"\n".join)
plain = st.binary() | near_vectors | near_vectors.map(lambda content: b"2 3\n" + content)


@st.composite
def damaged_archives(draw: st.DrawFn) -> bytes:
    content = draw(plain)
    packed = draw(st.sampled_from([gzip.compress(content), zipped(**{"a.3d.txt": content})]))
    damaged = bytearray(packed)
    for place in draw(st.lists(st.integers(0, len(packed) - 1), max_size=3)):
        damaged[place] = draw(st.integers(0, 255))
    return bytes(damaged[: draw(st.integers(0, len(packed)))])


@settings(max_examples=FUZZ_EXAMPLES, deadline=None)
@given(plain | damaged_archives(), st.none() | st.integers(1, 4))
@example(b"PK\x03\x04", None)
@example(b"\x1f\x8b", None)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, dimension: int | None
) -> None:
    file = write(tmp_path_factory.getbasetemp(), content, "fuzz")
    try:
        vectors = read_vectors(file, VOCABULARY, dimension)
    except UserError:
        return
    assert np.isfinite(vectors.values_VE).all()
    assert dimension in (None, vectors.values_VE.shape[1])


MEASURE = """
import pathlib, resource, sys
from sentiment.text.vectors import read_vectors
vocabulary = {f"w{i}": i for i in range(1000)}
started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert read_vectors(pathlib.Path(sys.argv[1]), vocabulary, None).found_V.all()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - started, "torch" in sys.modules)
"""


def test_memory_is_that_of_the_vocabulary_not_of_the_file(tmp_path: Path) -> None:
    numbers = b" 0.12345" * 100 + b"\n"
    file = tmp_path / "vectors.txt"
    with file.open("wb") as stream:
        for word in range(50_000):
            stream.write(b"w%d" % word + numbers)
    assert file.stat().st_size > 40_000_000
    command = [sys.executable, "-c", MEASURE, str(file)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kilobytes, has_torch = printed.split()
    assert int(kilobytes) < 10_000
    assert has_torch == "False"
