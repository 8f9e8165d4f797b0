"""Which functions have their arguments checked: all but closures whose annotations have no shape.

A closure is made anew at every call of the function around it, and so would its check be: that is
an eighth of the time of a tiny run. What its types say is checked by mypy.
"""

from beartype import beartype
from jaxtyping import AbstractArray


def _has_shape(annotation):
    parts = (annotation, *getattr(annotation, "__args__", ()))
    return any(isinstance(part, type) and issubclass(part, AbstractArray) for part in parts)


def checked(function):
    """Return the function with its arguments and its result checked by their annotations."""
    closure = "<locals>" in getattr(function, "__qualname__", "")
    if closure and not any(map(_has_shape, function.__annotations__.values())):
        return function
    return beartype(function)
