"""Settings in a visitor's words: what a control is called on the page. Programs keep the field's terms."""

from __future__ import annotations

import re

from restoration.degradations.advice import small
from restoration.degradations.blind import titles
from restoration.degradations.meter import Damage
from restoration.solvers import PRESETS, SOLVERS

# by (task or method, knob), or by the knob alone where it means the same everywhere
LABELS: dict[tuple[str, str] | str, str] = {
    "noise_std": "How strong the noise is",
    "std": "How wide the blur is",
    "size": "Largest extent of the blur",
    "path": "Which hand-shake",
    "reduction": "How it was made smaller",
    "keep": "Which pixels were kept",
    "mask": "Mask: black where pixels are missing",
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
    ("reld", "warm_start"): "How much a quick network does first",
    ("reld", "penalty"): "How much the model decides",
    ("reld", "renoise"): "Fresh noise in every step",
}
# what a setting of a damage means, where its help speaks to programs
HELP = {
    "noise_std": "5 is faint, 25 plain to see, 50 hides details",
    "std": "How far a point is spread, in pixels",
    "size": "How far across the blur reaches, in pixels",
    "path": "Each number is another movement of the hand",
    "missing": "The share of all pixels; a mask, painted or uploaded, takes its place",
}
# of a preset, by its method and its name
PRESET_LABELS = {
    ("reld", "fast"): "Usual",
    ("reld", "few-step"): "For models of few steps",
    ("latent-indigo", "vivid"): "Vivid: adds natural detail",
    ("latent-indigo", "faithful"): "Faithful: little that your picture does not show",
    ("latent-indigo", "fast"): "Quickest",
    ("latent-indigo", "pixel"): "Careful: checks the picture itself at every step",
    ("latent-indigo", "bold"): "Bold: redraws more",
    ("latent-indigo", "from noise"): "Drawn anew from noise: slow",
    ("latent-indigo", "paper-like"): "Like the paper's: takes minutes",
    ("ld-rps", "auto"): "Finds out itself what is wrong",
    ("ld-rps", "low-light"): "Too dark",
    ("ld-rps", "dehaze"): "Hazy",
    ("ld-rps", "denoise"): "Noisy",
    ("ld-rps", "colorize"): "Without colour",
    ("ld-rps", "colorize+denoise"): "Without colour, and noisy",
    ("reld-paper", "faithful"): "As published",
    ("ld-rps-paper", "paper"): "As published",
    ("ld-rps-paper", "paper dehaze"): "As published, for haze",
    ("ld-rps-paper", "paper denoise"): "As published, for noise",
}
# where an iteration is, and how much was found, in the papers' terms
JARGON = re.compile(
    r"(?:^|, | · )(?:pass \d+, timestep \d+|noise level [\d.]+/255)| \([^()]*(?:stops|/255|of white)[^()]*\)"
)
NAME = re.compile(r" \([^()]*\)$")  # of a choice, behind what it means
# how much of a damage is slight, and from how much on it is strong
GRADES = {"noise": (4 / 255, 20 / 255), "blur": (1.0, 3.0), "jpeg": (20.0, 60.0)}


def label(owner: str, name: str) -> str:
    """What the setting `name` of a task or method is called on the page."""
    return LABELS.get((owner, name)) or LABELS.get(name) or name.replace("_", " ").capitalize()


def explained(owner: str, name: str, usual: str) -> str:
    """One line about the setting `name` of a task or method; usual: its help."""
    return HELP.get(name, usual) if owner not in SOLVERS else usual


def presets(method: str) -> list[tuple[str, str]]:
    """(what it is called on the page, its name) of every preset of a method."""
    return [(preset(method, name), name) for name in PRESETS[method]]


def preset(method: str, name: str) -> str:
    """What a preset is called on the page: its meaning, and its name in recipes, links and commands."""
    meaning = PRESET_LABELS.get((method, name))
    return f"{meaning} ({name})" if meaning else name


def choice(method: str, name: str) -> str:
    """A method with one of its presets."""
    return f"{SOLVERS[method].title}: {preset(method, name)}"


def damage(name: str) -> str:
    """What a damage is called on the page, without its name in recipes."""
    return NAME.sub("", titles()[name])


def run(method: str, task: str, preset: str, seed: int | None, test: bool) -> str:
    """What a run was about, in a few words; test: whether the damage was made here."""
    told = test or not SOLVERS[method].blind  # of a photograph a blind method knows no damage's name
    about = damage(task) if told else PRESET_LABELS.get((method, preset), preset).partition(":")[0]
    return ("Test: " if test else "") + about + (f", seed {seed}" if seed else "")


def plain(note: str) -> str:
    """A step's note without JARGON."""
    return JARGON.sub("", note).strip(" ·,")


def named(warning: str) -> str:
    """A sentence for programs, with the noise's setting called as on the page."""
    return warning.replace("noise_std", f"“{LABELS['noise_std']}”")


def seen(damage: Damage) -> str:
    """What is wrong with a photograph, without units that only photographers and programs know."""
    lost = 100 - damage.jpeg.value
    sentences = {
        "noise": f"It is noisy{_grade('noise', damage.noise.value)}.",
        "blur": f"It is blurred{_grade('blur', damage.blur.value)}.",
        "jpeg": f"Compression (JPEG) has left traces{_grade('jpeg', lost)}.",
        "enlargement": f"It lacks detail, as if enlarged {damage.enlargement.value:.1f} times.",
        "darkness": f"It is too dark: it needs about {2**damage.darkness.value:.1f} times as much light.",
        "backlight": f"Its dark part needs about {2**damage.backlight.value:.1f} times as much light.",
        "veil": f"It is hazy: about {damage.veil.value:.0%} of what is seen is haze.",
        "colour": "It has no colour.",
    }
    wrong = [sentences[kind] for kind in damage.told()]
    right = (
        "Nothing seems wrong with it, but it is small." if small(damage) else "Nothing seems wrong with it."
    )
    return " ".join((wrong or [right]) + damage.doubts())


def _grade(kind: str, value: float) -> str:
    """How much of a damage there is, in a word; "" for a middling amount."""
    slight, strong = GRADES[kind]
    return ", slightly" if value < slight else ", strongly" if value >= strong else ""
