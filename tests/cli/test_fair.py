"""What another run knows must not be what this one sets aside, or the opposite of it."""

from pathlib import Path

import pytest

from sentiment import pretrain, train
from tests.cli.test_configuration import door_in

FILES = (
    *("data=files", "data.train=own.csv", "tokenizer.min_frequency=1", "embeddings.dimension=8"),
    *("model.hidden_size=8", "trainer.epochs=1", "trainer.batch_size=20", "runtime.threads=1"),
    *("data.positive=good", "data.negative=bad"),
)


def write(path: Path, film: str, count: int) -> None:
    rows = [
        f"a {('dull', 'fine')[i % 2]} {film} number {i},{('bad', 'good')[i % 2]}\n"
        for i in range(count)
    ]
    path.write_text("text,label\n" + "".join(rows))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier and a language model of one file, the same with more rows, and another one."""
    folder = tmp_path_factory.mktemp("workspace")
    for name, film, count in (("own", "film", 200), ("other", "play", 150), ("more", "show", 80)):
        write(folder / f"{name}.csv", film, count)
    for main, name in ((train.main, "first"), (pretrain.main, "language")):
        done = door_in(folder, main, *FILES, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    (folder / "copy.csv").write_text((folder / "own.csv").read_text())
    return folder


OTHER = ("data.train=other.csv", "data.unlabelled=more.csv")
TURNED = ("data.positive=bad", "data.negative=good")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("init_from=first", "split.seed=1"), "knows labels that are set aside here"),
        (("init_from=language", "split.seed=1"), "knows texts that are set aside here"),
        (
            ("init_from=language", "model.freeze=[encoder]"),
            "a language model, which has no weights for n-grams yet; give model.ngrams=0",
        ),
        ((*OTHER, *TURNED, "init_from=first"), "data.positive=bad is the negative label of"),
        ((*OTHER, *TURNED, "teacher=first"), "give data.positive=good data.negative=bad"),
        (("objective.entropy=1",), "there are none: use data=imdb"),
        (("data.positive=Good", "data.negative=good"), "are one label, expected two"),
    ],
)
def test_what_would_be_unfair_or_wrong_is_refused(
    workspace: Path, overrides: tuple[str, ...], message: str
) -> None:
    done = door_in(workspace, train.main, *FILES, *overrides, "hydra.run.dir=refused")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert not (workspace / "refused/checkpoints").exists()


@pytest.mark.parametrize("setting", ["init_from", "teacher"])
def test_a_file_that_has_grown_is_drawn_from_in_another_way(workspace: Path, setting: str) -> None:
    kept = (workspace / "own.csv").read_text()
    try:
        with (workspace / "own.csv").open("a") as file:
            file.write("a fine film number 200,good\n")
        command = (*FILES, "data.unlabelled=more.csv", f"{setting}=first")
        done = door_in(workspace, train.main, *command, "hydra.run.dir=refused")
        assert done.returncode == 2
        assert f"reviews are not those of {setting}=" in done.stderr
    finally:
        (workspace / "own.csv").write_text(kept)


def test_the_same_reviews_are_known_under_another_path(workspace: Path) -> None:
    command = (*FILES, "init_from=first")
    for name, path, anew in (("copied", "copy.csv", True), ("another", "other.csv", False)):
        done = door_in(
            workspace, train.main, *command, f"data.train={path}", f"hydra.run.dir={name}"
        )
        assert done.returncode == 0, done.stderr
        assert ("n-grams are learned anew" in done.stdout) == anew
