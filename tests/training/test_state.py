import copy
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.report.metrics import binary_sums
from sentiment.text.tokenizer import train_tokenizer
from sentiment.training.checkpoint import FILES, save_checkpoint
from sentiment.training.folder import MANIFEST
from sentiment.training.optimizer import build_optimizer
from sentiment.training.processes import Processes
from sentiment.training.state import STATE, TENSORS, Progress, TrainingState, load_resumable
from tests.conftest import compose_train

CONFIG = compose_train(
    *("data=sample", "model.layers=2", "model.hidden_size=4", "embeddings.dimension=3"),
    *("model.dropout=0.5", "model.embedding_dropout=0.5", "model.word_dropout=0.5"),
    "tokenizer.min_frequency=1",
)
FIGURES = ("loss", "accuracy")
TOKENIZER = train_tokenizer([["a fine film"]], CONFIG.tokenizer)


def new_state() -> TrainingState[Classifier]:
    torch.manual_seed(0)
    model = Classifier(nn.Embedding(TOKENIZER.get_vocab_size(), 3), CONFIG.model)
    return TrainingState(model, build_optimizer(model, CONFIG.optimizer), Progress(), FIGURES)


def learn(state: TrainingState[Classifier], updates: int) -> list[Tensor]:
    """Losses of further updates, dropout and all."""
    ids_TB, lengths_B = torch.tensor([[2, 3], [3, 4], [4, 0]]), torch.tensor([3, 2])
    labels_B = torch.tensor([0.0, 1.0])
    losses = []
    for _ in range(updates):
        logits_B = state.model(ids_TB, lengths_B)
        loss = nn.functional.binary_cross_entropy_with_logits(logits_B, labels_B)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.progress.update += 1
        fine = torch.tensor(False)
        for figures in (state.since_point, state.since_epoch):
            figures.update(binary_sums(loss.detach(), logits_B.detach(), labels_B), fine)
        losses.append(loss.detach())
    return losses


def save(state: TrainingState[Classifier], place: Path, keep: int = 2) -> None:
    figures = {"update": state.progress.update}
    save_checkpoint(
        place, state.model, TOKENIZER, CONFIG, figures, state.files(state.tensors()), keep
    )


def restored(place: Path) -> TrainingState[Classifier]:
    saved = load_resumable(place)
    assert saved is not None
    model = copy.deepcopy(saved.checkpoint.build_model())
    state = TrainingState(model, build_optimizer(model, CONFIG.optimizer), saved.progress, FIGURES)
    state.restore(saved)
    return state


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A checkpoint after 1 update, and under the newest name one after 2."""
    place, state = tmp_path / "run" / "checkpoints" / "last", new_state()
    for _ in range(2):
        learn(state, 1)
        save(state, place)
    return place


@pytest.mark.parametrize("updates", [0, 1, 5])
def test_a_restored_state_goes_on_to_the_same_bits(tmp_path: Path, updates: int) -> None:
    state = new_state()
    learn(state, updates)
    state.progress.history = [{"epoch": 1, "train/loss": 0.1 + 0.2}]
    state.progress.event_sizes = {"events.out.tfevents.1": 7}
    save(state, tmp_path / "last")
    ahead = learn(state, 5)

    torch.manual_seed(1)
    again = restored(tmp_path / "last")
    assert again.progress.update == updates
    assert learn(again, 5) == ahead
    assert again.progress == state.progress
    for weight, other in zip(state.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(weight, other)
    assert again.since_point.compute() == state.since_point.compute()
    assert again.since_epoch.compute() == state.since_epoch.compute()


def test_a_run_whose_first_batch_was_skipped_goes_on(tmp_path: Path) -> None:
    state = new_state()
    learn(state, 1)
    state.progress.update -= 1  # the optimizer has its moments all the same
    state.progress.faults.append({"epoch": 1, "batch": 1, "update": 0})
    save(state, tmp_path / "last")
    ahead = learn(state, 2)
    assert learn(restored(tmp_path / "last"), 2) == ahead


class SecondOfTwo(Processes):
    """What the second process of a run sees; the first one has zeros only."""

    def gather(self, tensor: Tensor) -> list[Tensor]:
        return [torch.zeros_like(tensor), tensor]


def test_each_process_gets_back_what_was_its_own(tmp_path: Path) -> None:
    two, state = SecondOfTwo(rank=1, count=2), new_state()
    learn(state, 3)
    second = TrainingState(state.model, state.optimizer, state.progress, FIGURES, two)
    second.since_epoch.sums.copy_(state.since_epoch.sums)
    save(second, tmp_path / "last")
    drawn = torch.rand(5)

    saved = load_resumable(tmp_path / "last")
    assert saved is not None
    model = copy.deepcopy(saved.checkpoint.build_model())
    optimizer = build_optimizer(model, CONFIG.optimizer)
    again = TrainingState(model, optimizer, saved.progress, FIGURES, two)
    again.restore(saved)
    assert torch.equal(torch.rand(5), drawn)
    assert torch.equal(again.since_epoch.sums, state.since_epoch.sums)
    alone = TrainingState(model, build_optimizer(model, CONFIG.optimizer), saved.progress, FIGURES)
    with pytest.raises(UserError, match=r"in as many processes \(now 1\)"):
        alone.restore(saved)


@pytest.mark.parametrize("name", [*FILES, STATE, TENSORS, MANIFEST])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(
    place: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (place / name).write_bytes((place / name).read_bytes()[:-5])
    with caplog.at_level(logging.WARNING):
        saved = load_resumable(place)
    assert saved is not None
    assert saved.checkpoint.folder == place.with_name("last.1")
    assert saved.progress.update == saved.checkpoint.metrics["update"] == 1
    (warning,) = caplog.messages
    assert str(place / name) in warning
    assert restored(place).progress.update == 1


def test_with_all_damaged_it_is_said_what_to_delete(place: Path) -> None:
    for folder in (place, place.with_name("last.1")):
        (folder / STATE).write_bytes(b"")
    with pytest.raises(UserError, match=rf"last\.1/{STATE} differs .*delete {place.parent} to"):
        load_resumable(place)


def test_a_checkpoint_without_a_training_state_is_not_resumed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", new_state().model, TOKENIZER, CONFIG, {})
    with pytest.raises(UserError, match=rf"does not list .*{STATE}.*{TENSORS}"):
        load_resumable(tmp_path / "last")


def test_where_there_is_nothing_there_is_nothing_to_resume(tmp_path: Path) -> None:
    assert load_resumable(tmp_path / "checkpoints" / "last") is None


def test_a_crash_between_two_renames_leaves_the_one_before(place: Path) -> None:
    place.rename(place.with_name("last.2"))
    saved = load_resumable(place)
    assert saved is not None
    assert saved.progress.update == 1


def test_a_state_of_another_model_is_refused(place: Path) -> None:
    saved = load_resumable(place)
    assert saved is not None
    other = compose_train("data=sample", "model.hidden_size=5", "embeddings.dimension=3")
    model = Classifier(nn.Embedding(TOKENIZER.get_vocab_size(), 3), other.model)
    state = TrainingState(model, build_optimizer(model, other.optimizer), saved.progress, FIGURES)
    with pytest.raises(UserError, match=rf"{TENSORS}: optimizer\..* expected float32"):
        state.restore(saved)


def test_other_reviews_than_those_the_run_began_with_are_refused(place: Path) -> None:
    saved = load_resumable(place)
    assert saved is not None
    saved.progress.data_sha256 = {"train": "a", "test": "b"}
    saved.require_reviews({"train": "a", "test": "b"})
    with pytest.raises(UserError, match="the test reviews are others"):
        saved.require_reviews({"train": "a", "test": "c"})
