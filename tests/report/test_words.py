from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.report.words import LEVELS, cut


def test_words_keep_their_place_weight_and_strength() -> None:
    words = cut("  I like it", [(2, 3, -0.1), (4, 8, 0.8), (9, 11, -0.4)])
    assert [word.text for word in words] == ["  ", "I", " ", "like", " ", "it"]
    assert [word.weight for word in words] == [None, -0.1, None, 0.8, None, -0.4]
    assert [word.level for word in words] == [0, 0, 0, LEVELS, 0, LEVELS // 2]


def test_tokens_of_one_sign_are_one_word() -> None:
    assert [
        word[:2] for word in cut("a😀b", [(0, 1, 1.0), (1, 2, 0.5), (1, 2, 0.25), (2, 3, 0.0)])
    ] == [
        ("a", 1.0),
        ("😀", 0.75),
        ("b", 0.0),
    ]


@given(st.text(), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(-8, 8))))
@settings(max_examples=50)
def test_words_together_are_the_text(text: str, tokens: list[tuple[int, int, int]]) -> None:
    inside = sorted((s, s + n, w) for s, n, w in tokens if s + n <= len(text))
    words = cut(text, inside)
    assert "".join(word.text for word in words) == text
    found = sum(word.weight or 0 for word in words)
    assert found == sum(weight for _, _, weight in inside)
