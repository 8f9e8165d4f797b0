"""What an error of other code says, for a line of one's own."""


def first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
