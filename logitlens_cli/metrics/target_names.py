"""Whose logit or rank: a word, or a token by its id."""

TARGET_WORDS = {
    "final": "the final top guess",
    "input": "the input token",
    "next": "the true next token",
}
AUTO = "auto"
"""every token that was ever a top guess; only ranks and traces know it"""
ID_PREFIX = "id:"
"""how a target begins that names a token by its number"""


def token_target(token_id: int) -> str:
    """The target that is one token: "id:N"."""
    return f"{ID_PREFIX}{token_id}"


def target_token_id(target: str) -> int | None:
    """N of "id:N"; None where a target is not a token's number."""
    number = target.removeprefix(ID_PREFIX)
    digits = number.isascii() and number.isdecimal() and len(number) <= 18
    return int(number) if digits and target.startswith(ID_PREFIX) else None


def target_words(target: str, label: str = "") -> str:
    """A target for people, with the token's label if it has one."""
    number = target_token_id(target)
    if number is not None:
        return f"token {number}{label and f' {label}'}"
    return TARGET_WORDS.get(target, f"token {target}")
