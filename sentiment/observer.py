"""What the dashboard shows of a model that learns, beside its curves."""

from tokenizers import Tokenizer
from torch import Tensor

from sentiment.data.encoded import EncodedReviews
from sentiment.model.classifier import Classifier
from sentiment.report.journal import Journal
from sentiment.report.mistakes import confident_mistakes, mistakes_table
from sentiment.training.probe import Probe
from sentiment.training.saliency import saliency


class Observer:
    """Looks at a model before the first update and after every epoch, and leaves it as it is.

    Args:
        model: that learns.
        validation: reviews to look at it with.
        tokenizer: that they were encoded with.
        names: of the labels 0 and 1.
        journal: gets what is seen.
    """

    def __init__(
        self,
        model: Classifier,
        validation: EncodedReviews,
        tokenizer: Tokenizer,
        names: tuple[str, str],
        journal: Journal,
    ) -> None:
        self.model, self.validation, self.tokenizer = model, validation, tokenizer
        self.names, self.journal = names, journal
        self.probe = Probe(validation, tokenizer, model.encoder)

    def __call__(self, update: int, logits_N: Tensor | None) -> None:
        """Look at the model, whose validation logits these are if it has any by now."""
        curves, gates = self.probe(self.model)
        self.journal.gradients(curves, update)
        if gates is not None:
            self.journal.gates(gates, update)
        if logits_N is not None:
            labels_N = self.validation.labels_N
            self.journal.evaluation("validation", logits_N, labels_N, self.names, update)
            rows_M = confident_mistakes(logits_N, labels_N)
            reviews_M = self.validation.select(rows_M.numpy())
            weights_M = saliency(self.model, reviews_M)
            table = mistakes_table(
                reviews_M, logits_N[rows_M], weights_M, self.tokenizer, self.names
            )
            self.journal.text("validation/confident_mistakes", table, update)
