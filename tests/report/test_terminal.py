from sentiment.report.terminal import explained

TEXT, TOKENS = "a \x1b[31mfine\tfilm\n", [(0, 1, 0.0), (7, 11, 0.9), (12, 16, -0.5)]


def test_words_are_green_and_red_and_what_would_steer_the_terminal_is_replaced() -> None:
    assert explained(TEXT, "good", 0.75, TOKENS, coloured=True) == (
        "\x1b[1mgood 0.75\x1b[0m\n"
        "a \ufffd[31m\x1b[38;5;16;48;5;83mfine\x1b[0m\t\x1b[38;5;16;48;5;217mfilm\x1b[0m\n\n"
    )


def test_without_colours_the_strongest_words_have_their_weights() -> None:
    expected = "good 0.75\na \ufffd[31mfine[+0.90]\tfilm[-0.50]\n\n"
    assert explained(TEXT, "good", 0.75, TOKENS, coloured=False) == expected


def test_an_empty_text_is_told() -> None:
    assert explained(" ", None, None, [], coloured=True) == "empty text\n"
