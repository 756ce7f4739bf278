"""The error that says what a user should change."""


class UserError(ValueError):
    """Bad input: names the argument or file, what was found and what was expected.

    The scripts print it as one line and exit with status 2.
    """


def check_range(name: str, value: object, low: float, high: float = float("inf")) -> None:
    """Raise unless `low <= value <= high`. Traced values, as in a sweep, pass unchecked."""
    if isinstance(value, int | float) and not low <= value <= high:
        raise UserError(f"{name}: found {value}, expected a number in [{low:g}, {high:g}]")
