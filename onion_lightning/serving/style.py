"""The page's colors, its style sheet, and the few lines of script that gradio has no component for."""

import gradio as gr

__all__ = ["COPY", "CSS", "DOWNLOAD", "NAME_BOXES", "TAKE_SELECTION", "theme"]

# System fonts: nothing is loaded from elsewhere. The default orange on white has too little contrast.
CSS = """
.gradio-container .app { padding: 12px !important; max-width: 1080px; margin: 0 auto; }
:focus-visible { outline: 3px solid #b45309 !important; outline-offset: 2px; }
.dark :focus-visible { outline-color: #fdba74 !important; }
button[role=tab][aria-selected=true] { color: #b45309 !important; }
.dark button[role=tab][aria-selected=true] { color: #fdba74 !important; }
.notice { border-left: 4px solid #b45309; padding: 0.4rem 0.8rem; margin: 0.2rem 0; }
.copied { border-left: 4px solid #dc2626; padding: 0.4rem 0.8rem; }
.faint { opacity: 0.75; font-size: 0.9rem; overflow-wrap: anywhere; }
"""

COPY = """async text => {
  try { await navigator.clipboard.writeText(text); return 'Copied'; } catch (error) { return 'Could not copy'; }
}"""

DOWNLOAD = """text => {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/plain;charset=utf-8'}));
  link.download = 'article.txt';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""

# Gradio reports a selection by mouse only; a button reads it however it was made.
TAKE_SELECTION = """(before) => {
  const box = document.querySelector('#look_text textarea');
  return box.value.slice(box.selectionStart, box.selectionEnd) || before;
}"""

# A box with a copy button loses its accessible name to the button.
NAME_BOXES = """() => {
  const name = () => document.querySelectorAll('label > .icon-button-wrapper').forEach(wrapper => {
    const box = wrapper.parentElement.querySelector('textarea, input');
    const label = wrapper.parentElement.querySelector('[data-testid=block-info]');
    if (box && label && !box.getAttribute('aria-label')) box.setAttribute('aria-label', label.innerText.trim());
  });
  name();
  new MutationObserver(name).observe(document.body, {childList: true, subtree: true});
}"""


def theme() -> gr.themes.Base:
    """Return gradio's plain theme with system fonts and a darker orange."""
    plain = gr.themes.Base(
        primary_hue="orange", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return plain.set(
        button_primary_background_fill="#b45309",
        button_primary_background_fill_dark="#b45309",
        button_primary_background_fill_hover="#92400e",
        button_primary_background_fill_hover_dark="#92400e",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        body_text_color_subdued="#57534e",
        body_text_color_subdued_dark="#d6d3d1",
        block_info_text_color="#57534e",
        block_info_text_color_dark="#d6d3d1",
        input_placeholder_color="#6b7280",
        slider_color="#b45309",
        slider_color_dark="#fb923c",
    )
