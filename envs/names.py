"""Names that a user may have meant."""

import difflib
from collections.abc import Iterable


def closest_names(name: str, names: Iterable[str]) -> list[str]:
    """Return at most three of `names` that are spelt like `name`, upper and lower case alike."""
    folded = {known.casefold(): known for known in names}
    return [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, 3)]
