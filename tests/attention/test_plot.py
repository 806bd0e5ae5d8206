"""The plot of a text that its font cannot draw."""

from onion_lightning.attention.phrase_attention import attend
from onion_lightning.attention.plot import plot_attention, printable


def test_characters_that_the_font_does_not_have_are_drawn_as_boxes(base, tokenizer):
    assert printable("🥚a") == "□a"
    text = "The town $of$ 🥚 met مجلس and ended"
    plot = plot_attention(attend(base, tokenizer, text, "ended", "🥚"))
    assert plot.startswith(b"\x89PNG")
