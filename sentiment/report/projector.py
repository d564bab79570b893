"""The files of TensorBoard's embedding projector: word vectors, and what is known of each word.

`projector_config.pbtxt` in the run directory names the others, so it is written after them.

Shapes: V vocabulary, E width of a word vector, W words.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sentiment.report.run import write_text
from sentiment.text.tokenizer import unknown_id

CONFIG = "projector_config.pbtxt"
TENSORS, METADATA = "projector/tensors.tsv", "projector/metadata.tsv"
MOST_WORDS = 2000


def polar_words(tokenizer: Tokenizer, logits_V: Tensor, most: int = MOST_WORDS) -> Tensor:
    """Ids of the words that say most alone, int64 `[W]`, W <= most; no special tokens.

    Args:
        tokenizer: whose vocabulary the words are from.
        logits_V: logit of the review that is this word and nothing else.
        most: how many, at most.
    """
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    ids = sorted(set(tokenizer.get_vocab().values()) - special - {unknown_id(tokenizer)})
    ids_W = torch.tensor(ids, dtype=torch.int64)
    order_W = logits_V[ids_W].abs().argsort(descending=True, stable=True)
    return ids_W[order_W][:most]


def write_projector(
    directory: Path, tokenizer: Tokenizer, vectors_VE: Tensor, logits_V: Tensor, train_ids: Tensor
) -> None:
    """Write the most polar words' vectors; the files are whole, or the projector sees none.

    Args:
        directory: the run directory.
        tokenizer: whose vocabulary the words are from.
        vectors_VE: float32.
        logits_V: logit of the review that is this word and nothing else.
        train_ids: tokens of the training reviews.
    """
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import EmbeddingInfo, ProjectorConfig

    ids_W = polar_words(tokenizer, logits_V)
    counts_V = torch.bincount(train_ids, minlength=len(logits_V))
    words = {index: word for word, index in tokenizer.get_vocab().items()}
    rows = [("word", "logit", "count")]
    for index in ids_W.tolist():
        logit, count = f"{logits_V[index]:.4f}", str(int(counts_V[index]))
        rows.append((_in_one_cell(words[index]), logit, count))
    vectors = ("\t".join(f"{x:.6g}" for x in row) for row in vectors_VE[ids_W].tolist())
    embedding = EmbeddingInfo(
        tensor_name=f"{len(ids_W)} most polar words",
        tensor_shape=[len(ids_W), vectors_VE.shape[1]],
        tensor_path=TENSORS,
        metadata_path=METADATA,
    )
    remove_projector(directory)
    (directory / TENSORS).parent.mkdir(exist_ok=True)
    write_text(directory / TENSORS, "".join(f"{line}\n" for line in vectors))
    write_text(directory / METADATA, "".join("\t".join(row) + "\n" for row in rows))
    write_text(
        directory / CONFIG, text_format.MessageToString(ProjectorConfig(embeddings=[embedding]))
    )


def remove_projector(directory: Path) -> None:
    """Take back what `write_projector` has made public."""
    (directory / CONFIG).unlink(missing_ok=True)


def _in_one_cell(token: str) -> str:
    """A token as it is, unless it would end the cell or the line."""
    return repr(token) if not token or any(sign.isspace() for sign in token) else token
