"""The two exceptions that end a command in an orderly way."""


class UserError(Exception):
    """What the user gave cannot be used; the doors print it as one line and exit with code 2.

    The message names the file or the setting, what was found, what was expected and the way out.
    """


class Interrupted(Exception):  # noqa: N818 - as KeyboardInterrupt
    """A signal stopped the work, and what was done is saved; the exit code is 128 and its number.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
