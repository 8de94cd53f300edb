"""Captions, with a tiny random model of SmolVLM's own classes that the test saves to disk."""

from __future__ import annotations

import socket
import threading

import httpx
import huggingface_hub
import pytest
import torch
from safetensors import SafetensorError

from restoration.priors import caption, hub
from restoration.priors.caption import CAPTIONERS, MLLM, WORDS, no_caption
from restoration.solvers.fpam import vgg_features

SIDE, PATCH = 28, 14
TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {% for c in m.content %}"
    "{{ '<image>' if c.type == 'image' else c.text }}{% endfor %}{% endfor %} assistant"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
        PreTrainedTokenizerFast,
    )

    special = ["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"]
    vocabulary = {
        word: i for i, word in enumerate(["<unk>", "</s>", *special, *(f"word{i}" for i in range(58))])
    }
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=special,
    )
    images = Idefics3ImageProcessor(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=True
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=1, chat_template=TEMPLATE)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Idefics3Config(
        image_token_id=vocabulary["<image>"],
        vision_config={**sizes, "image_size": SIDE, "patch_size": PATCH},
        text_config={
            "model_type": "llama",
            **sizes,
            "num_key_value_heads": 2,
            "vocab_size": len(vocabulary),
            "pad_token_id": 1,
            "eos_token_id": 1,
        },
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Idefics3ForConditionalGeneration(config)
    folder = tmp_path_factory.mktemp("mllm")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return str(folder)


def test_a_caption_is_short_and_repeats(folder, photo):
    first = MLLM(folder)(photo)
    assert first.note == "" and 1 <= len(first.text.split()) <= WORDS
    caption.load_captioner.cache_clear()
    assert MLLM(folder)(photo) == first


def test_the_question_and_the_picture_reach_the_model(folder, photo, monkeypatch):
    _, model = caption.load_captioner(folder)
    seen = {}
    monkeypatch.setattr(model, "generate", lambda **inputs: seen.update(inputs) or inputs["input_ids"])
    MLLM(folder)(photo)
    assert seen["do_sample"] is False and seen["pixel_values"].shape == (1, 1, 3, SIDE, SIDE)


def test_the_model_leaves_the_device_when_it_has_answered(folder, photo, monkeypatch):
    """A run needs the memory there, also after a failure."""
    _, model = caption.load_captioner(folder)
    went, move = [], model.to
    monkeypatch.setattr(model, "to", lambda device: went.append(str(device)) or move(device))
    MLLM(folder)(photo)
    monkeypatch.setattr(model, "generate", None)
    assert MLLM(folder)(photo).note and went == ["cpu"] * 4


def test_without_weights_there_is_one_sentence_and_no_prompt(tmp_path, photo):
    text, note = MLLM(str(tmp_path))(photo)
    assert text == "" and note.startswith("No caption: ") and "\n" not in note


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore advice"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        MemoryError(),
        SafetensorError("Error while deserializing header: MetadataIncompleteBuffer"),
        KeyError("smolvlm"),
        httpx.ReadTimeout("The read operation timed out"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("part", ["loading", "answering"])
def test_whatever_fails_is_one_sentence_and_no_prompt(folder, photo, monkeypatch, part, error):
    def fail(*arguments, **options):
        raise error

    if part == "loading":
        monkeypatch.setattr(caption, "load_captioner", fail)
    else:
        monkeypatch.setattr(type(caption.load_captioner(folder)[1]), "generate", fail)
    text, note = MLLM(folder)(photo)
    reason = (str(error) or "MemoryError").splitlines()[0]
    assert text == "" and note == f"No caption: {folder} failed ({reason}); the prompt stays empty."


@pytest.mark.parametrize("name_server", ["silent", "unknown name"])
def test_without_network_it_ends_before_the_name_server_answers(name_server, photo, monkeypatch):
    asked, answered, over = list[int](), list[int](), threading.Event()

    def look_up(*arguments, **options):
        asked.append(1)
        if name_server == "silent":
            over.wait(120)
            answered.append(1)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "SECONDS", 1.0)
    text, note = MLLM("nobody/has-this-model")(photo)
    assert text == "" and "cannot be reached" in note
    with pytest.raises(OSError, match="features=edges needs no weights"):
        vgg_features()
    assert asked and not answered
    over.set()


def test_no_caption(photo):
    assert no_caption(photo) == ("", "") and "none" in CAPTIONERS


def test_the_damage_is_never_named():
    assert not any(word in caption.QUESTION.lower() for word in ("dark", "haz", "nois", "grey", "blur"))
