"""Label each line of standard input; needs torch and tokenizers, but not the code of the model."""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer

folder, metadata = Path(__file__).parent, {"metadata.json": ""}
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
model = torch.export.load(folder / "model.pt2", extra_files=metadata).module()
about = json.loads(metadata["metadata.json"])
labels, threshold = json.loads(about["labels"]), float(about["threshold"])

texts = [line.rstrip("\n") for line in sys.stdin]
by_length = sorted(range(len(texts)), key=lambda row: len(texts[row]))
found = torch.empty(len(texts))
for rows in (by_length[start : start + 64] for start in range(0, len(texts), 64)):
    encodings = tokenizer.encode_batch([texts[row] for row in rows])
    ids = torch.tensor([encoding.ids for encoding in encodings], dtype=torch.int64)
    lengths = torch.tensor([sum(encoding.attention_mask) for encoding in encodings])
    with torch.no_grad():
        _, found[rows] = model(ids, lengths)
for text, probability in zip(texts, found.tolist(), strict=True):
    record = {"label": labels[probability > threshold], "probability": round(probability, 6)}
    print(json.dumps({"text": text} | record))
