"""The problems that are known by name, for help texts and suggestions."""

from envs.control.policies import POLICIES
from envs.finite.standard_problems import FINITE_PROBLEMS, SEEDED_PROBLEMS


def problem_names() -> list[str]:
    """Return the names of the finite problems and of the environments with policies of their own.

    Seeded families are written with SEED. Any other Gymnasium id is a problem too.
    """
    return [*FINITE_PROBLEMS, *(f"{name}-SEED" for name in SEEDED_PROBLEMS), *POLICIES]
