"""Settings in a visitor's words: what a control is called on the page. Programs keep the field's terms."""

from __future__ import annotations

# by (task or method, knob), or by the knob alone where it means the same everywhere
LABELS: dict[tuple[str, str] | str, str] = {
    "noise_std": "How strong the noise is",
    "std": "How wide the blur is",
    "size": "Largest extent of the blur",
    "path": "Which hand-shake",
    "reduction": "How it was made smaller",
    "keep": "Which pixels were kept",
    "missing": "How much is missing",
    "steps": "Steps",
    "start_level": "How freely it begins",
    "end_level": "How finely it ends",
    "output": "What is shown as the result",
    "text_guidance": "How closely it follows the caption",
    "prompt": "Caption",
    "guess": "What to look for",
    "act": "When to change the picture",
    "all_steps_below": "Largest picture that takes all steps",
    "fidelity_weight": "How much of your picture is kept",
    "fidelity": "What counts as your picture",
    "refine": "Learn from this photograph",
    "domain": "Where the camera's network works",
    "start": "What it begins with",
    "tile": "Size of the parts that are worked on",
    ("super-resolution", "scale"): "How many times larger",
    ("super-resolution", "blur"): "How wide the blur was",
    ("latent-indigo", "scale"): "How many times larger",
    ("latent-indigo", "strength"): "How natural it is kept",
    ("ld-rps", "strength"): "How much is changed",
    ("reld", "penalty"): "How much the model decides",
    ("reld", "renoise"): "Fresh noise in every step",
}


def label(owner: str, name: str) -> str:
    """What the setting `name` of a task or method is called on the page."""
    return LABELS.get((owner, name)) or LABELS.get(name) or name.replace("_", " ").capitalize()
