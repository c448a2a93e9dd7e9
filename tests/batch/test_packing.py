"""Which prompts share a pass."""

from logitlens_cli.batch import packing
from logitlens_cli.lens.prompt import TokenizedPrompt
from logitlens_cli.model.tokenizer import Encoded


def of_length(length: int) -> TokenizedPrompt:
    encoded = Encoded((0,) * length, ((0, 0),) * length, bos=False)
    return TokenizedPrompt(name=str(length), text="", encoded=encoded, columns=range(length))


def test_prompts_of_like_length_share_a_pass_within_the_budget() -> None:
    made = packing.packed([of_length(n) for n in (9, 2, 3, 30, 2, 8, 3)], 18)
    assert [[len(p.ids) for p in group] for group in made] == [[2, 2, 3, 3], [8, 9], [30]]


def test_a_long_prompt_is_never_filled_up() -> None:
    made = packing.packed([of_length(n) for n in (1500, 1600, 1024, 1000, 1025)], 1 << 20)
    assert [[len(p.ids) for p in group] for group in made] == [[1000, 1024], [1025], [1500], [1600]]
