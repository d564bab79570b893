"""The usual way: the model and the loops of the tutorials.

Shapes: T time, B batch.
"""

import re

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from benchmarks.sides import stopwatch
from sentiment.config import TrainConfig
from sentiment.data.batches import collate, pad, sorted_batches
from sentiment.data.encoded import EncodedReviews, EncodedTexts
from sentiment.model.classifier import Classifier
from sentiment.text.tokenizer import PAD_ID, UNK_ID

BATCH = 64
"""As in the notebooks of bentrevett and of d2l.ai; by default all sides read the same batches."""


class TutorialModel(nn.Module):
    """One bidirectional `nn.LSTM`, and a logit of its final states.

    Args:
        vocabulary_size: words of the embedding.
        config: has the other sizes.
        packed: hand the LSTM packed reviews in place of padded ones.
    """

    def __init__(self, vocabulary_size: int, config: TrainConfig, packed: bool) -> None:
        super().__init__()
        width, hidden = config.embeddings.dimension, config.model.hidden_size
        assert width is not None
        self.packed = packed
        self.embedding = nn.Embedding(vocabulary_size, width, padding_idx=PAD_ID)
        self.rnn = nn.LSTM(width, hidden, config.model.layers, bidirectional=True, dropout=0.5)
        self.fc = nn.Linear(2 * hidden, 1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, ids_TB: Tensor, lengths_B: Tensor) -> Tensor:
        """Return logits `[B]`."""
        embedded = self.dropout(self.embedding(ids_TB))
        if self.packed:
            embedded = pack_padded_sequence(embedded, lengths_B.cpu(), enforce_sorted=False)
        _, (hidden, _) = self.rnn(embedded)
        logits_B1: Tensor = self.fc(self.dropout(torch.cat((hidden[-2], hidden[-1]), dim=1)))
        return logits_B1.squeeze(1)

    def copy_weights(self, classifier: Classifier) -> None:
        """Take over the weights of this pipeline's model, which pools its final states only."""
        encoder = classifier.encoder
        weights = {"embedding.weight": classifier.embedding.weight}
        for suffix, lstms in (("", encoder.left_to_right), ("_reverse", encoder.right_to_left)):
            for layer, lstm in enumerate(lstms):
                for name, weight in lstm.named_parameters():
                    weights[f"rnn.{name.removesuffix('0')}{layer}{suffix}"] = weight
        weights |= {f"fc.{name}": weight for name, weight in classifier.output.named_parameters()}
        self.load_state_dict(weights)


def train_tutorial(reviews: EncodedReviews, config: TrainConfig, packed: bool) -> float:
    """Seconds that the tutorial loop needs for one pass, in batches of similar length."""
    torch.manual_seed(0)
    device = torch.device(config.runtime.device.value)
    model = TutorialModel(config.tokenizer.vocabulary_size, config, packed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    criterion = nn.BCEWithLogitsLoss()
    batches = sorted_batches(reviews.lengths_N.numpy(), BATCH)
    order = np.random.default_rng(0).permutation(len(batches))
    seconds = stopwatch(device)
    for index in order:
        batch = collate(reviews, batches[index], device)
        optimizer.zero_grad()
        criterion(model(batch.ids_TB, batch.lengths_B), batch.labels_B).backward()
        optimizer.step()
    return seconds()


def predict_packed(model: TutorialModel, texts: EncodedTexts) -> Tensor:
    """Logits `[N]` of encoded texts, packed, in batches of similar length."""
    logits_N = torch.zeros(len(texts))
    with torch.inference_mode():
        for rows in sorted_batches(texts.lengths_N.numpy(), BATCH):
            logits_N[torch.from_numpy(rows)] = model(*pad(texts, rows))
    return logits_N


def predict_one_at_a_time(
    model: TutorialModel, tokenizer: Tokenizer, max_length: int | None, texts: list[str]
) -> list[float]:
    """Probabilities by the loop around `predict_sentiment(text)`."""
    probabilities = []
    with torch.no_grad():
        for text in texts:
            ids = tokenizer.encode(text).ids or [UNK_ID]
            ids_T1 = torch.tensor(ids[-(max_length or 0) :])[:, None]
            probabilities.append(torch.sigmoid(model(ids_T1, torch.tensor([len(ids_T1)]))).item())
    return probabilities


def look_up_words(vocabulary: dict[str, int], texts: list[str]) -> list[list[int]]:
    """Token ids by a regular expression and a dictionary."""
    return [
        [vocabulary.get(word, UNK_ID) for word in re.findall(r"\w+|[^\w\s]+", text.lower())]
        for text in texts
    ]
