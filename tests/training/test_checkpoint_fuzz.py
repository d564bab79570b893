"""Whatever a checkpoint's files hold, under a manifest that matches, is an error in words.

`FUZZ_EXAMPLES=2000` looks longer.
"""

import contextlib
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from sentiment import SentimentPredictor
from sentiment.errors import UserError
from sentiment.model.ngrams import NO_NGRAM
from sentiment.training.checkpoint import FILES
from sentiment.training.folder import MANIFEST, describe
from sentiment.training.predictor import Prediction
from tests.conftest import FUZZ_EXAMPLES, write_checkpoint

# test_checkpoint_mutations.py tries more, and slower.
EXAMPLES = max(10, FUZZ_EXAMPLES // 5)
PROBE = ["a fine film", "\u0130 ünknöwn <br /> 9", "x" * 50, "."]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("run") / "best", PROBE[:1])


def predict_with(folder: Path, name: str, content: bytes) -> list[Prediction]:
    """Predict with a copy of the checkpoint in which one file holds something else."""
    damaged = folder.with_name("damaged")
    if not damaged.exists():
        shutil.copytree(folder, damaged)
    original = (folder / name).read_bytes()
    manifest = (folder / MANIFEST).read_bytes()
    try:
        (damaged / name).write_bytes(content)
        if name != MANIFEST:
            changed = json.loads(manifest)
            changed["files"][name] = describe(content)
            (damaged / MANIFEST).write_text(json.dumps(changed))
        return SentimentPredictor.load(damaged, threads=1)(PROBE)
    finally:
        (damaged / name).write_bytes(original)
        (damaged / MANIFEST).write_bytes(manifest)


def check_with(folder: Path, name: str, content: bytes) -> None:
    """See that it predicts with the changed file, or says what is wrong with it."""
    with contextlib.suppress(UserError):
        predictions = predict_with(folder, name, content)
        assert all(0 <= p.probability <= 1 for p in predictions if p.probability is not None)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_bytes_in_place_of_a_file(folder: Path, name: str, data: st.DataObject) -> None:
    original = (folder / name).read_bytes()
    start = data.draw(st.integers(0, len(original)))
    end = data.draw(st.integers(start, min(start + 8, len(original))))
    patched = original[:start] + data.draw(st.binary(max_size=8)) + original[end:]
    check_with(folder, name, data.draw(st.sampled_from([patched, data.draw(st.binary())])))


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, -1, 2, 10**6, 2**31, 2**32, 2**63, 10**30, 1e300, math.nan, math.inf])
    | st.sampled_from(["", "a", "auto", "???", "${seed}", "${oc.env:HOME}", "<unk>", "BPE", "F64"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the parts of a JSON value are, itself first."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(part, (*path, key))


def edited(value: Any, data: st.DataObject) -> Any:
    """The value with one part dropped, or replaced by anything."""
    path = data.draw(st.sampled_from(list(paths(value))))
    if not path:
        return data.draw(JSON_VALUES)
    place = value
    for key in path[:-1]:
        place = place[key]
    if data.draw(st.booleans()):
        place[path[-1]] = data.draw(JSON_VALUES)
    else:
        del place[path[-1]]
    return value


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_value_in_place_of_another(folder: Path, name: str, data: st.DataObject) -> None:
    original = (folder / name).read_bytes()
    if name == "model.safetensors":
        size = 8 + int.from_bytes(original[:8], "little")
        header = json.dumps(edited(json.loads(original[8:size]), data)).encode()
        check_with(folder, name, len(header).to_bytes(8, "little") + header + original[size:])
        return
    value = yaml.safe_load(original) if name == "config.yaml" else json.loads(original)
    check_with(folder, name, json.dumps(edited(value, data)).encode())


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"9" * 5_000, b"\xff\xfe", b"null", b"1", b"[]"]
)
def test_contents_that_once_broke_a_parser(folder: Path, name: str, content: bytes) -> None:
    check_with(folder, name, content)


def test_weights_that_are_no_numbers_are_refused(folder: Path) -> None:
    for value in (math.nan, math.inf):
        weights = load((folder / "model.safetensors").read_bytes())
        weights["output.bias"] = np.full_like(weights["output.bias"], value)
        with pytest.raises(UserError, match=r"output\.bias holds NaN or infinity"):
            predict_with(folder, "model.safetensors", save(weights))


def test_ngrams_that_there_cannot_be_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "best", PROBE[:1], "model.ngrams=2", "model.ngrams_size=3")
    whole = load((folder / "model.safetensors").read_bytes())
    none, size = (
        NO_NGRAM,
        len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]),
    )
    for single, pairs, accepted in (
        ([1, 2, none], [0, 2 * size - 1, none], True),
        ([1, 2, none], [0, 2 * size, none], False),
        ([2, 1, none], [0, 1, none], False),
        ([1, size, none], [0, 1, none], False),
        ([-1, 1, none], [0, 1, none], False),
        ([1, none, 2], [0, 1, none], False),
        ([none] * 3, [0, none, none], False),
    ):
        content = save(whole | {"ngrams.keys_OS": np.array([single, pairs])})
        if accepted:
            assert len(predict_with(folder, "model.safetensors", content)) == len(PROBE)
            continue
        with pytest.raises(UserError, match=r"ngrams\.keys_OS holds n-grams that there cannot be"):
            predict_with(folder, "model.safetensors", content)
