"""The words that guide a text prior: a multimodal language model says what a damaged picture would show in
good condition.

As LD-RPS (arXiv 2507.00790) does, with two differences: its InternVL-Chat-V1.5 (26 B parameters, remote code)
is replaced by models that transformers knows natively and a CPU can run, and decoding is greedy, so that a
caption can be repeated.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from restoration.files.images import to_pil
from restoration.priors.hub import reachable

WORDS = 20
# own wording of the paper's question: task-blind, content first, and the damage never named
QUESTION = (
    "This picture is of low quality. How would its content look in normal, high-quality condition? Answer "
    "with words or phrases, "
    f"at most {WORDS} words: the main subject first, then colours, orientation and surroundings. Do not "
    "mention the quality."
)


class Caption(NamedTuple):
    """text: the caption, at most WORDS words; note: one sentence if there is none, else empty."""

    text: str
    note: str = ""


def no_caption(y: Tensor) -> Caption:
    """No words."""
    return Caption("")


@dataclass(frozen=True)
class MLLM:
    """An image-text-to-text model of transformers with a chat template: a Hub id or a local folder.

    Loaded at the first call and kept.
    """

    model: str

    def __call__(self, y: Tensor) -> Caption:
        """What y (1,3,h,w) in [0,1] shows.

        Without network, weights or memory, and whatever else fails, the text is empty and the note says why.
        """
        try:
            processor, model = load_captioner(self.model)
            return Caption(_answer(processor, model, y))
        # of four libraries, the network and the device: none of them may cost the user the restoration
        except Exception as error:
            if isinstance(error, OSError) and not Path(self.model).is_dir() and not reachable():
                return Caption(
                    "",
                    f"No caption: {self.model} is not stored here and the Hugging Face Hub cannot be "
                    "reached; the prompt stays empty.",
                )
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return Caption("", f"No caption: {self.model} failed ({reason}); the prompt stays empty.")


CAPTIONERS: dict[str, Callable[[Tensor], Caption]] = {
    "none": no_caption,
    "SmolVLM 256M": MLLM("HuggingFaceTB/SmolVLM-256M-Instruct"),  # Apache-2.0; about 20 s on two cores
    "SmolVLM 500M": MLLM("HuggingFaceTB/SmolVLM-500M-Instruct"),  # Apache-2.0
    "Qwen3-VL 2B": MLLM("Qwen/Qwen3-VL-2B-Instruct"),  # Apache-2.0; wants a GPU
}


def prepare(name: str) -> None:
    """Download and load the captioner of this name, as its first call would; what fails is that call's to
    say.
    """
    with contextlib.suppress(Exception):
        captioner = CAPTIONERS[name]
        if isinstance(captioner, MLLM):
            load_captioner(captioner.model)


@functools.lru_cache(maxsize=1)
def load_captioner(name: str) -> tuple[Any, Any]:
    """(processor, model) on the host, in float32 where that is all there is, in bfloat16 elsewhere;
    safetensors only, no remote code.
    """
    import torch
    from accelerate import PartialState
    from transformers import AutoModelForImageTextToText, AutoProcessor

    dtype = torch.float32 if PartialState().default_device.type == "cpu" else torch.bfloat16
    local = Path(name).is_dir() or not reachable()
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=False, local_files_only=local)
    # SmolVLM: one tile instead of up to 17, which a CPU cannot wait for
    if hasattr(processor.image_processor, "do_image_splitting"):
        processor.image_processor.do_image_splitting = False
    model = AutoModelForImageTextToText.from_pretrained(
        name, dtype=dtype, use_safetensors=True, trust_remote_code=False, local_files_only=local
    )
    return processor, model.eval()


def _answer(processor: Any, model: Any, y: Tensor) -> str:
    """On the process's device, which the model leaves afterwards: a run needs the memory there."""
    from accelerate import PartialState

    try:
        return _told(processor, model.to(PartialState().default_device), y)
    finally:
        model.to("cpu")


def _told(processor: Any, model: Any, y: Tensor) -> str:
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
    question = processor.apply_chat_template([turn], add_generation_prompt=True)
    inputs = processor(text=[question], images=[[to_pil(y)]], return_tensors="pt").to(
        model.device, model.dtype
    )
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=3 * WORDS)
    text = processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0]
    return " ".join(text.split()[:WORDS])
