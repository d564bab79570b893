"""Train, evaluate and use a bidirectional LSTM for sentiment classification."""
