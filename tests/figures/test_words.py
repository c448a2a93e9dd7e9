"""What a figure says about its reading."""

from drawn import all_texts, heatmap_of
from readings import make


def test_decode_variant_and_unit_are_named() -> None:
    words = all_texts(heatmap_of(make(), "kl-final")).replace("\n", " ")
    assert "full norm" in words
    assert "KL(final || layer) [nats]" in words
    assert "hand-made" in words
