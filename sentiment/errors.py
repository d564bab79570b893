"""The one exception that a user's mistake becomes."""


class UserError(Exception):
    """What the user gave cannot be used; the doors print it as one line and exit with code 2.

    The message names the file or the setting, what was found, what was expected and the way out.
    """
