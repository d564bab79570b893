import csv
from pathlib import Path

import pytest
import torch
from torch import nn

from sentiment.config import Device, Precision, RuntimeConfig, TrainConfig
from sentiment.data.encoded import EncodedReviews
from sentiment.errors import UserError
from sentiment.model.classifier import Classifier
from sentiment.report.tensorboard import Dashboard
from sentiment.training.inference import predict_logits
from sentiment.training.loop import fit
from sentiment.training.runtime import prepare, seed_everything
from tests.conftest import compose_train

CPU = prepare(RuntimeConfig(Device.cpu, Precision.float32, 1, deterministic=False, cache_dir="."))


def first_token_decides(count: int, seed: int) -> EncodedReviews:
    """Reviews of 2 to 12 tokens that are positive where the first token is 2."""
    generator = torch.Generator().manual_seed(seed)
    labels_N = torch.randint(0, 2, (count,), generator=generator)
    lengths_N = torch.randint(2, 13, (count,), generator=generator)
    starts_N = lengths_N.cumsum(0) - lengths_N
    ids = torch.randint(4, 20, (int(lengths_N.sum()),), generator=generator, dtype=torch.int32)
    ids[starts_N] = (3 - labels_N).int()
    return EncodedReviews(ids, starts_N, lengths_N, labels_N)


TRAIN, VALIDATION = first_token_decides(300, 0), first_token_decides(100, 1)


def run(
    directory: Path, *overrides: str
) -> tuple[Classifier, dict[str, float], list[tuple[str, float]]]:
    config: TrainConfig = compose_train(
        "data=sample",
        "embeddings.dimension=8",
        "model.hidden_size=8",
        "model.embedding_dropout=0.1",
        "trainer.batch_size=16",
        "optimizer.learning_rate=0.02",
        *overrides,
    )
    seed_everything(config.seed)
    model = Classifier(nn.Embedding(20, 8), config.model)
    saved: list[tuple[str, float]] = []
    dashboard = Dashboard(directory)
    best = fit(
        model,
        TRAIN,
        VALIDATION,
        config,
        CPU,
        directory,
        dashboard,
        save=lambda name, metrics: saved.append((name, metrics["validation/accuracy"])),
    )
    dashboard.close()
    return model, best, saved


def test_learns_what_the_first_token_says(tmp_path: Path) -> None:
    model, best, saved = run(tmp_path, "trainer.epochs=4")
    assert best["validation/accuracy"] > 0.95
    assert [accuracy for name, accuracy in saved if name == "best"][-1] == max(
        accuracy for _, accuracy in saved
    )
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert [int(row["update"]) for row in rows] == [19, 38, 57, 76]
    assert best["validation/accuracy"] == max(float(row["validation/accuracy"]) for row in rows)
    logits_N = predict_logits(model, VALIDATION, CPU)
    right = ((logits_N > 0) == VALIDATION.labels_N.bool()).double().mean().item()
    assert right == pytest.approx(float(rows[-1]["validation/accuracy"]))


def test_stops_early_without_gain(tmp_path: Path) -> None:
    # The learning rate goes up and up: the first epochs learn, later ones do harm.
    overrides = ("trainer.epochs=9", "trainer.patience=2", "optimizer.warmup_fraction=0.9")
    _, best, saved = run(tmp_path, *overrides, "optimizer.learning_rate=5")
    epochs = [name for name, _ in saved].count("last")
    assert best["epoch"] + 2 == epochs < 9


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    weights = [
        torch.cat(
            [
                p.flatten()
                for p in run(tmp_path / str(i), f"seed={seed}", "trainer.epochs=1")[0].parameters()
            ]
        )
        for i, seed in enumerate((0, 0, 1))
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_diverging_run_is_stopped_with_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def infinite(self: Classifier, ids_TB: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.full((ids_TB.shape[1],), torch.inf) * self.output.bias

    monkeypatch.setattr(Classifier, "forward", infinite)
    with pytest.raises(UserError, match=r"diverged, update 0: loss .*optimizer\.learning_rate"):
        run(tmp_path, "trainer.epochs=1")


def test_weights_that_break_in_the_last_update_are_not_saved(tmp_path: Path) -> None:
    overrides = ("trainer.epochs=1", "trainer.max_train_batches=1", "optimizer.warmup_fraction=0")
    with pytest.raises(UserError, match="diverged, update 1: validation logits"):
        run(tmp_path, *overrides, "optimizer.learning_rate=1e38")


def test_positive_weight_moves_the_logits_up(tmp_path: Path) -> None:
    overrides = ("trainer.epochs=1", "trainer.max_train_batches=3")
    means = [
        predict_logits(
            run(tmp_path / w, f"objective.pos_weight={w}", *overrides)[0], VALIDATION, CPU
        )
        for w in ("0.1", "10")
    ]
    assert means[0].mean() < means[1].mean()


def test_predictions_come_in_the_reviews_order() -> None:
    model = Classifier(nn.Embedding(20, 8), compose_train("model.hidden_size=8").model)
    logits_N = predict_logits(model, VALIDATION, CPU)
    for row in (0, 17, 99):
        start, length = int(VALIDATION.starts_N[row]), int(VALIDATION.lengths_N[row])
        ids_TB = VALIDATION.ids[start : start + length].long().unsqueeze(1)
        alone = model(ids_TB, torch.tensor([length]))
        torch.testing.assert_close(logits_N[row : row + 1], alone.detach(), atol=1e-6, rtol=0)
