"""Which reviews are set aside: rows or whole groups, the same share of each class."""

import numpy as np
from numpy.typing import NDArray


def draw_rows(
    labels_N: NDArray[np.int64], fraction: float, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw the same share of each class at random, row by row.

    Args:
        labels_N: 0 or 1 per review.
        fraction: the share to draw, in (0, 1).
        generator: decides which rows.

    Returns:
        True where the review is drawn.
    """
    mask_N = np.zeros(len(labels_N), dtype=np.bool_)
    for label in (0, 1):
        rows = generator.permutation(np.flatnonzero(labels_N == label))
        mask_N[rows[: round(len(rows) * fraction)]] = True
    return mask_N


def draw_groups(
    labels_N: NDArray[np.int64],
    groups_N: NDArray[np.int64],
    fraction: float,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Draw whole groups at random, so that about the same share of each class is drawn.

    Groups come in random order; one is drawn, or put back in a later pass, where that brings the
    drawn reviews of the two classes nearer to the wanted numbers (as points of a plane), until
    none does.

    Args:
        labels_N: 0 or 1 per review.
        groups_N: the number of its group, from 0.
        fraction: the share to draw, in (0, 1).
        generator: decides the order.

    Returns:
        True where the review is drawn.
    """
    sizes_G2 = np.zeros((groups_N.max() + 1, 2))
    np.add.at(sizes_G2, (groups_N, labels_N), 1)
    missing_2 = sizes_G2.sum(axis=0) * fraction
    drawn_G = np.zeros(len(sizes_G2), dtype=np.bool_)
    is_nearer = True
    while is_nearer:
        is_nearer = False
        for group in generator.permutation(len(sizes_G2)):
            left_2 = missing_2 + (sizes_G2[group] if drawn_G[group] else -sizes_G2[group])
            if left_2 @ left_2 < missing_2 @ missing_2 - 1e-6:
                drawn_G[group], missing_2, is_nearer = not drawn_G[group], left_2, True
    return drawn_G[groups_N]
