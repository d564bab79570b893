import gzip
import io
import logging
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.config import DataConfig, DataSource, SplitConfig, SplitKind
from sentiment.data.encoding import encode, fingerprint
from sentiment.data.films import film_numbers, text_keys
from sentiment.data.reviews import (
    load_split,
    load_splits,
    load_unlabelled,
    ratings_of,
    take_labelled,
    validation_mask,
)
from sentiment.errors import UserError
from sentiment.text.tokenizer import train_tokenizer
from tests.conftest import compose_train

SPLIT = SplitConfig(validation_fraction=0.25, seed=0)
SPLIT_ONE_OF_EACH = SplitConfig(validation_fraction=0.5, seed=0)


def write_parquet(folder: Path, name: str, texts: list[str], labels: list[int]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"text": texts, "label": labels}), folder / f"{name}.parquet")


def local(path: Path) -> DataConfig:
    return DataConfig(DataSource.imdb, str(path))


def rows(dataset: Dataset) -> list[tuple[str, int]]:
    return list(zip(dataset["text"], dataset["label"], strict=True))


REVIEWS = {
    "train/neg/2_1.txt": "second, bad",
    "train/neg/10_3.txt": "tenth, bad",
    "train/pos/0_9.txt": "first, good",
    "train/pos/1_7.txt": "second, good",
    "train/unsup/0_0.txt": "unlabelled",
    "train/unsup/1_0.txt": "tested, bad",
    "test/neg/0_2.txt": "tested, bad",
    "test/pos/0_10.txt": "tested, good é",
}
TRAIN = [("second, bad", 0), ("tenth, bad", 0), ("first, good", 1), ("second, good", 1)]


def test_original_folder_and_archive_come_by_class_then_id(tmp_path: Path) -> None:
    archive = tmp_path / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for name, text in REVIEWS.items():
            path = tmp_path / "aclImdb" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            entry = tarfile.TarInfo(f"aclImdb/{name}")
            entry.size = len(text.encode())
            file.addfile(entry, io.BytesIO(text.encode()))
    for path in (tmp_path / "aclImdb", tmp_path, archive):
        assert rows(load_split(local(path), "train")) == TRAIN
        test = load_split(local(path), "test")
        assert rows(test) == [("tested, bad", 0), ("tested, good é", 1)]
        assert ratings_of(test).tolist() == [2, 10]
        splits = load_splits(local(path), SPLIT_ONE_OF_EACH)
        assert load_unlabelled(local(path), splits)[:] == {"text": ["unlabelled"]}


def test_unlabelled_texts_of_no_split_come_as_they_stand(tmp_path: Path) -> None:
    labels = [0, 1] * 4
    write_parquet(tmp_path, "train", [f"train {i}" for i in range(8)], labels)
    write_parquet(tmp_path, "test", [f"test {i}" for i in range(8)], labels)
    texts = ["new", "test 3", "train 0", "train 1", "train 2", "train 7", "newer"]
    write_parquet(tmp_path, "unsupervised", texts, [-1] * len(texts))
    splits = load_splits(local(tmp_path), SPLIT)
    found = load_unlabelled(local(tmp_path), splits)
    assert found.column_names == ["text"]
    assert found["text"][:] == ["new", "newer"]


@given(st.integers(2, 20), st.integers(1, 5), st.integers(0, 5))
@settings(deadline=None, max_examples=10)
def test_labelled_reviews_are_drawn_by_class_and_smaller_draws_are_in_larger_ones(
    positive: int, negative: int, seed: int
) -> None:
    labels = [1] * positive + [0] * negative
    train = Dataset.from_dict({"text": [str(i) for i in range(len(labels))], "label": labels})
    before: set[str] = set()
    for count in range(2, len(labels) + 1):
        kept, rest = take_labelled(train, SplitConfig(0.1, seed, labelled=count))
        assert kept.column_names == ["text", "label"]
        assert rest.column_names == ["text"]
        assert len(kept) == count
        assert set(kept["text"][:]) | set(rest["text"][:]) == set(train["text"][:])
        assert before <= set(kept["text"][:])
        assert set(kept["label"][:]) == {0, 1}
        assert abs(sum(kept["label"][:]) - count * positive / len(labels)) < 2
        before = set(kept["text"][:])
    everything, nothing = take_labelled(train, SplitConfig(0.1, seed))
    assert (len(everything), len(nothing)) == (len(labels), 0)
    with pytest.raises(UserError, match=r"split\.labelled is 99, expected no more than the"):
        take_labelled(train, SplitConfig(0.1, seed, labelled=99))


def test_without_unlabelled_texts_there_is_a_word(tmp_path: Path) -> None:
    write_parquet(tmp_path, "train", ["a", "b", "c", "d"], [0, 0, 1, 1])
    write_parquet(tmp_path, "test", ["e", "f"], [0, 1])
    splits = load_splits(local(tmp_path), SPLIT_ONE_OF_EACH)
    with pytest.raises(UserError, match=r"no unsupervised reviews in it.*unsupervised\.parquet"):
        load_unlabelled(local(tmp_path), splits)
    sample = DataConfig(DataSource.sample, None)
    assert len(load_unlabelled(sample, load_splits(sample, SPLIT))) == 0


@pytest.mark.parametrize("name", ["train.parquet", "plain_text/train-00000-of-00001.parquet"])
def test_parquet_under_our_name_and_the_hubs(tmp_path: Path, name: str) -> None:
    write_parquet(tmp_path, "train", ["a", "b"], [0, 1])
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "train.parquet").rename(tmp_path / name)
    assert rows(load_split(local(tmp_path), "train")) == [("a", 0), ("b", 1)]


def test_ratings_come_along_and_change_no_hash(tmp_path: Path) -> None:
    write_parquet(tmp_path, "test", ["a", "b"], [0, 1])
    plain = load_split(local(tmp_path), "test")
    assert np.isnan(ratings_of(plain)).all()
    table = pa.table({"rating": ["2", "ten"], "text": ["a", "b"], "label": [0, 1]})
    pq.write_table(table, tmp_path / "test.parquet")
    rated = load_split(local(tmp_path), "test")
    np.testing.assert_equal(ratings_of(rated), [2, np.nan])
    assert fingerprint(rated) == fingerprint(plain)
    tokenizer = train_tokenizer([["a b"]], compose_train("tokenizer.min_frequency=1").tokenizer)
    encoded = encode(rated, fingerprint(rated), tokenizer, tmp_path)
    assert encoded.labels_N.tolist() == [0, 1]
    cached = {file.name for file in tmp_path.glob("*.arrow")}
    encode(plain, fingerprint(plain), tokenizer, tmp_path)
    assert {file.name for file in tmp_path.glob("*.arrow")} == cached


def test_the_sample_is_balanced_and_offline() -> None:
    for name, size in (("train", 4000), ("test", 1000)):
        labels = np.asarray(load_split(DataConfig(DataSource.sample, None), name)["label"])
        assert len(labels) == size
        assert labels.mean() == 0.5


def test_an_unreachable_hub_names_the_two_ways_out() -> None:
    with pytest.raises(UserError, match=r"stanfordnlp/imdb.*data\.path.*data=sample"):
        load_split(DataConfig(DataSource.imdb, None), "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"review": ["a", "b"], "label": [0, 1]}, r"columns \['review', 'label'\]"),
        ({"text": ["a", "b"], "label": [0, -1]}, r"labels \[-1, 0\]"),
        ({"text": ["a", None], "label": [0, 1]}, "1 rows without a text or a label"),
        ({"text": ["a", "b"], "label": ["neg", "pos"]}, "whole numbers as labels"),
        ({"text": ["a", "b"], "label": [0.5, 1.0]}, "whole numbers as labels"),
        ({"text": [["a"], ["b"]], "label": [0, 1]}, "expected strings"),
        ({"text": [b"a", b"\xff"], "label": [0, 1]}, "expected strings"),
        ({"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())}, "train.parquet"),
        (b"not parquet", "as parquet"),
        (None, "no train reviews in it"),
    ],
)
def test_unusable_reviews_are_refused(
    tmp_path: Path, content: dict[str, list[object]] | bytes | None, message: str
) -> None:
    path = tmp_path / "train.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        pq.write_table(pa.table(content), path)
    with pytest.raises(UserError, match=message):
        load_split(local(tmp_path), "train")


def test_an_archive_is_read_and_never_unpacked(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "deeper"
    folder.mkdir(parents=True)
    outside = tmp_path / "secret.txt"
    outside.write_text("not a review")
    with tarfile.open(folder / "aclImdb_v1.tar.gz", "w:gz") as file:
        for name in ("../../train/pos/0_9.txt", f"{tmp_path}/train/neg/0_2.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            file.addfile(entry, io.BytesIO(b"text"))
        link = tarfile.TarInfo("aclImdb/train/pos/1_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        file.addfile(link)
    texts = load_split(local(folder / "aclImdb_v1.tar.gz"), "train")["text"]
    assert texts[:] == ["text", "text"]
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"aclImdb_v1.tar.gz", "secret.txt"}


@pytest.mark.parametrize("damage", ["cut off", "one byte", "a header"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    path, plain = tmp_path / "aclImdb_v1.tar.gz", io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as file:
        for number in range(20):
            entry = tarfile.TarInfo(
                f"aclImdb/train/{'neg' if number % 2 else 'pos'}/{number}_1.txt"
            )
            entry.size = 2000
            file.addfile(
                entry, io.BytesIO(np.random.default_rng(number).bytes(1000).hex().encode())
            )
    packed = bytearray(gzip.compress(plain.getvalue()))
    if damage == "cut off":
        packed = packed[: len(packed) // 2]
    elif damage == "one byte":
        packed[len(packed) // 2] ^= 255
    else:
        broken = bytearray(plain.getvalue())
        broken[12 * 2560] ^= 255
        packed = bytearray(gzip.compress(bytes(broken))[:-8] + packed[-8:])
    path.write_bytes(packed)
    with pytest.raises(UserError, match="download it again"):
        load_split(local(path), "train")


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    for name, content in (("pos/0_9.txt", b"fine"), ("neg/1_2.txt", b"caf\xe9")):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(content)
    with pytest.raises(UserError, match=r"neg/1_2\.txt is not UTF-8 at byte 3"):
        load_split(local(tmp_path), "train")


def test_a_folder_name_is_no_pattern(tmp_path: Path) -> None:
    write_parquet(tmp_path / "im[db]", "train", ["a", "b"], [0, 1])
    write_parquet(tmp_path / "imd", "train", ["c", "d"], [0, 1])
    assert rows(load_split(local(tmp_path / "im[db]"), "train")) == [("a", 0), ("b", 1)]


def test_splits_of_the_same_reviews_are_refused(tmp_path: Path) -> None:
    texts = [f"review {i}" for i in range(20)]
    for name in ("train", "test"):
        write_parquet(tmp_path, name, texts, [0] * 10 + [1] * 10)
    with pytest.raises(UserError, match=r"0 train reviews are left.*different reviews"):
        load_splits(local(tmp_path), SPLIT)


def test_a_text_stays_in_one_split_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"review {i}" for i in range(40)]
    texts[3] = texts[27] = texts[17] = "seen in test"
    write_parquet(tmp_path, "train", [*texts, *texts[:1]], [0] * 20 + [1] * 20 + [1])
    write_parquet(tmp_path, "test", ["seen in test", "other"], [0, 1])
    with caplog.at_level(logging.INFO):
        splits = load_splits(local(tmp_path), SPLIT)
    parts = {name: set(part["text"]) for name, part in splits.items()}
    assert not parts["train"] & parts["test"]
    assert not parts["validation"] & parts["test"]
    assert not parts["train"] & parts["validation"]
    assert parts["train"] | parts["validation"] == set(texts) - {"seen in test"}
    dropped = [int(record.getMessage().split()[1]) for record in caplog.records]
    assert len(splits["train"]) + len(splits["validation"]) + sum(dropped) == 41


@given(
    negative=st.integers(4, 300),
    positive=st.integers(4, 300),
    fraction=st.floats(0.15, 0.85, allow_subnormal=False),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(SplitKind),
)
@settings(max_examples=30, deadline=None)
def test_each_class_gives_its_share_to_validation(
    negative: int, positive: int, fraction: float, seed: int, kind: SplitKind
) -> None:
    labels_N = np.array([0] * negative + [1] * positive)
    groups_N, split = np.arange(len(labels_N)), SplitConfig(fraction, seed, kind)
    mask_N = validation_mask(labels_N, groups_N, split)
    for start, end in ((0, negative), (negative, negative + positive)):
        assert mask_N[start:end].sum() == pytest.approx(fraction * (end - start), abs=0.501)
    assert np.array_equal(mask_N, validation_mask(labels_N, groups_N, split))


def test_another_split_seed_chooses_other_reviews() -> None:
    labels_N, groups_N = np.array([0, 1] * 500), np.arange(1000)
    splits = (SplitConfig(0.1, seed) for seed in range(5))
    assert len({validation_mask(labels_N, groups_N, split).tobytes() for split in splits}) == 5


def test_a_split_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"split\.validation_fraction=0\.1 takes 0 of 3 negative"):
        validation_mask(np.array([0, 0, 0, 1, 1, 1]), np.arange(6), SplitConfig(0.1, 0))


def test_layout_of_a_text_does_not_change_its_film() -> None:
    texts = ["Good.<br />Really good!", " good. <br/> REALLY good ", "Good.<br />Really, good"]
    keys = text_keys([text.lower() for text in texts])
    assert len(set(keys.tolist())) == 1
    films_N, known = film_numbers(["one", "two", "one"])
    assert (known, len(set(films_N.tolist()))) == (0, 3)


@pytest.mark.slow
def test_real_imdb_keeps_whole_films_together_in_any_order(
    imdb_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    listed = pq.read_table(imdb_dir / "metadata.parquet").to_pandas().query("split == 'train'")
    table = pq.read_table(imdb_dir / "train.parquet")
    film_of = dict(zip(table["text"].to_pylist(), listed.sort_values("row")["movie"], strict=True))
    (tmp_path / "test.parquet").symlink_to(imdb_dir / "test.parquet")
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    pq.write_table(shuffled, tmp_path / "train.parquet")

    def parts(path: Path, kind: SplitKind = SplitKind.grouped) -> tuple[set[str], set[str]]:
        splits = load_splits(local(path), SplitConfig(0.1, 0, kind))
        return set(splits["train"]["text"]), set(splits["validation"]["text"])

    def share_of_known_films(train: set[str], validation: set[str]) -> float:
        seen = {film_of[text] for text in train}
        return sum(film_of[text] in seen for text in validation) / len(validation)

    train, validation = parts(imdb_dir)
    assert len(validation) == pytest.approx(2500, abs=25)
    # A few texts stand under several films.
    assert share_of_known_films(train, validation) < 0.02
    assert share_of_known_films(*parts(imdb_dir, SplitKind.random)) > 0.9
    assert parts(tmp_path)[1] == validation
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    pq.write_table(
        pa.concat_tables([shuffled, pa.table({"text": ["Mine."], "label": [1]})]),
        tmp_path / "train.parquet",
    )
    parts(tmp_path)
    assert "1 of 25001 training reviews are not known to be of IMDB" in caplog.text


def test_real_imdb_loses_its_known_duplicates(
    imdb_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        splits = load_splits(local(imdb_dir), SplitConfig(0.1, 0))
    assert len(splits["test"]) == 25_000
    tested = set(splits["test"]["text"])
    assert not tested & {*splits["train"]["text"], *splits["validation"]["text"]}
    messages = [record.getMessage() for record in caplog.records]
    assert sum(int(m.split()[1]) for m in messages if m.endswith("also in test")) == 123
