"""The page's colors, its style sheet, and the few lines of script that gradio has no component for."""

import json

import gradio as gr

from onion_lightning.data.prompt import format_prompt

__all__ = ["COPY", "CSS", "DOWNLOAD", "LATER_COPY", "TAKE_SELECTION", "theme"]

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

# All candidates that are shown.
COPY = """async (...texts) => {
  const text = texts.filter(Boolean).join('\\n\\n---\\n\\n');
  try { await navigator.clipboard.writeText(text); return 'Copied'; } catch (error) { return 'Could not copy'; }
}"""

LATER_COPY = "async () => { await new Promise(done => setTimeout(done, 1500)); return 'Copy'; }"

DOWNLOAD = """(...texts) => {
  const text = texts.filter(Boolean).join('\\n\\n---\\n\\n') + '\\n';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/plain;charset=utf-8'}));
  link.download = 'article.txt';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}"""

# Gradio reports a selection by mouse only; a button reads it however it was made. `attend` takes the second occurrence of a
# phrase as `phrase#2`, and counts those in the prompt, too.
TAKE_SELECTION = """(before, headline) => {
  const box = document.querySelector('#look_text textarea');
  const selected = box.value.slice(box.selectionStart, box.selectionEnd), phrase = selected.trim();
  if (!phrase) return before;
  const line = headline.trim().split(/\\s+/).join(' ');
  const prompt = line ? PROMPT.replace('HEADLINE', () => line) : '';
  const text = prompt + box.value;
  const start = prompt.length + box.selectionStart + selected.indexOf(phrase);
  let number = 0;
  for (let at = text.indexOf(phrase); at !== -1 && at <= start; at = text.indexOf(phrase, at + 1)) number++;
  return number > 1 ? `${phrase}#${number}` : phrase;
}""".replace("PROMPT", json.dumps(format_prompt("HEADLINE")))


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
