"""How each family of denoisers takes its text and its conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restoration.priors.parts import Parts

# the guidance that a latent consistency model takes as an input: the least that it was trained with (arXiv
# 2310.04378, §5)
LCM_GUIDANCE = 2.0


class Denoiser:
    """The network of Stable Diffusion 1 and 2, and of anything else that takes one text or none."""

    side = 64  # latent pixels that it was trained on, where its configuration does not say

    def __init__(self, parts: Parts):
        self.parts = parts
        self._constants: dict[Any, Tensor] = {}

    @torch.no_grad()
    def read(self, texts: list[str], device: torch.device) -> Tensor | None:
        """Texts as `predict` takes them: one row each, (B,L,D); None where the prior reads none."""
        if not self.parts.text_encoders:
            return None
        return self._encodings(texts, device)[0][0].float()

    def predict(self, z_t: Tensor, t: float, text: Tensor | None, pixels: tuple[int, int]) -> Tensor:
        """The network's output for z_t (B,C,h,w), float32, at t as `Levels.given` says it.

        text: (B,L,D). pixels: of the picture that z_t is the latent of.
        """
        text = None if text is None else text.to(z_t)
        return self._unet(z_t, t, encoder_hidden_states=text) if text is not None else self._unet(z_t, t)

    def predict_trusting(self, z_t: Tensor, t: float, text: Tensor | None, pixels: tuple[int, int]) -> Tensor:
        """`predict` where the noise counts as white and of the level t: most networks know no other."""
        return self.predict(z_t, t, text, pixels)

    def _unet(self, z_t: Tensor, t: float, **more: Any) -> Tensor:
        if (width := self.parts.unet.config.get("time_cond_proj_dim")) is not None:
            from diffusers import LatentConsistencyModelPipeline as Pipeline

            embedding = self._constant(
                "guidance",
                z_t,
                lambda: Pipeline.get_guidance_scale_embedding(
                    None, torch.full((1,), LCM_GUIDANCE), embedding_dim=width
                ),
            )
            more["timestep_cond"] = embedding.expand(len(z_t), -1)
        return self.parts.unet(z_t, self._time(t, z_t), **more).sample.float()

    def _time(self, t: float, z_t: Tensor) -> Any:
        """t of each row, made on the device: a number would be copied there at every call."""
        return torch.full((len(z_t),), t, device=z_t.device)

    def _constant(self, name: Any, like: Tensor, make: Callable[[], Tensor]) -> Tensor:
        """What is made on the host and brought to the device and precision of `like` once."""
        key = name, like.device, like.dtype
        if key not in self._constants:
            self._constants[key] = make().to(like)
        return self._constants[key]

    def _encodings(self, texts: list[str], device: torch.device) -> list[Any]:
        return [
            encoder(
                tokenizer(
                    texts,
                    padding="max_length",
                    max_length=tokenizer.model_max_length,
                    truncation=True,
                    return_tensors="pt",
                ).input_ids.to(device),
                output_hidden_states=True,
            )
            for tokenizer, encoder in zip(self.parts.tokenizers, self.parts.text_encoders, strict=True)
        ]


class EmbeddedDenoiser(Denoiser):
    """The embedded prior's, which decides by the level on the host what it computes."""

    def predict_trusting(self, z_t: Tensor, t: float, text: Tensor | None, pixels: tuple[int, int]) -> Tensor:
        return self._unet(z_t, t, trusting=True)

    def _time(self, t: float, z_t: Tensor) -> Any:
        return t


class SDXLDenoiser(Denoiser):
    """SDXL (arXiv 2307.01952, §2): two texts, a summary, and the size of the training picture."""

    @torch.no_grad()
    def read(self, texts: list[str], device: torch.device) -> Tensor:
        """D holds both encodings; one row more is the second one's summary of the whole text, filled up with
        zeros.
        """
        out = self._encodings(texts, device)
        # §2.1: the last but one layer
        tokens = torch.cat([encoding.hidden_states[-2] for encoding in out], -1).float()
        summary = out[1].text_embeds.float()
        text = torch.cat([tokens, F.pad(summary, (0, tokens.shape[-1] - summary.shape[-1]))[:, None]], 1)
        if self.parts.empty_is_zero:
            text[[not line for line in texts]] = 0
        return text

    def predict(self, z_t: Tensor, t: float, text: Tensor | None, pixels: tuple[int, int]) -> Tensor:
        assert text is not None
        text = text.to(z_t)
        # size, crop corner and target size of the training picture: all of it, at our size
        times = self._constant(pixels, z_t, lambda: torch.tensor([[*pixels, 0, 0, *pixels]]))
        times = times.expand(len(z_t), -1)
        width = self.parts.text_encoders[1].config.projection_dim
        more = {"text_embeds": text[:, -1, :width], "time_ids": times}
        return self._unet(z_t, t, encoder_hidden_states=text[:, :-1], added_cond_kwargs=more)


class SD3Denoiser(Denoiser):
    """Stable Diffusion 3 and 3.5 (arXiv 2403.03206): two CLIP texts and a summary of both; without T5, as the
    paper allows.
    """

    T5_TOKENS = 256  # zeros in its place, as many as diffusers' pipeline takes

    @torch.no_grad()
    def read(self, texts: list[str], device: torch.device) -> Tensor:
        out = self._encodings(texts, device)
        width = self.parts.unet.config.joint_attention_dim
        tokens = torch.cat([encoding.hidden_states[-2] for encoding in out], -1).float()
        summary = torch.cat([encoding.text_embeds for encoding in out], -1).float()[:, None]
        nothing = tokens.new_zeros(len(texts), self.T5_TOKENS, width)
        return torch.cat(
            [
                F.pad(tokens, (0, width - tokens.shape[-1])),
                nothing,
                F.pad(summary, (0, width - summary.shape[-1])),
            ],
            1,
        )

    def predict(self, z_t: Tensor, t: float, text: Tensor | None, pixels: tuple[int, int]) -> Tensor:
        assert text is not None
        text, width = text.to(z_t), self.parts.unet.config.pooled_projection_dim
        even, size = _even(z_t)
        time = torch.full((len(z_t),), 1000 * t, device=z_t.device)
        out = self.parts.unet(
            even, timestep=time, encoder_hidden_states=text[:, :-1], pooled_projections=text[:, -1, :width]
        )
        return out.sample[..., : size[0], : size[1]].float()


class ZImageDenoiser(Denoiser):
    """Z-Image (arXiv 2511.22699): the hidden states of a chat model; text and latent are one sequence, of any
    length.
    """

    side = 128

    @torch.no_grad()
    def read(self, texts: list[str], device: torch.device) -> Tensor:
        """The last column says which tokens count."""
        (tokenizer,), (encoder,) = self.parts.tokenizers, self.parts.text_encoders
        chats = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": line}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=True,
            )
            for line in texts
        ]
        tokens = tokenizer(
            chats, padding="max_length", max_length=512, truncation=True, return_tensors="pt"
        ).to(device)
        mask = tokens.attention_mask.bool()
        states = (
            encoder(input_ids=tokens.input_ids, attention_mask=mask, output_hidden_states=True)
            .hidden_states[-2]
            .float()
        )
        rows = [F.pad(row[counts], (0, 1), value=1.0) for row, counts in zip(states, mask, strict=True)]
        return nn.utils.rnn.pad_sequence(rows, batch_first=True)

    def lengths(self, text: Tensor) -> list[int]:
        """How many tokens of each row count."""
        return [int(count) for count in text[..., -1].sum(1).tolist()]

    def predict(self, z_t: Tensor, t: float, text: Tensor | None, pixels: tuple[int, int]) -> Tensor:
        assert text is not None
        even, size = _even(z_t)
        rows = [row[:count, :-1].to(z_t) for row, count in zip(text, self.lengths(text), strict=True)]
        time = torch.full((len(z_t),), 1 - t, device=z_t.device, dtype=torch.float32)
        out = self.parts.unet(list(even[:, :, None].unbind()), time, rows, return_dict=False)[0]
        return -torch.stack(out)[:, :, 0, : size[0], : size[1]].float()  # it predicts z0 - ε


def _even(z: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """z with even sides, the last row and column repeated: transformers read patches of 2×2; and the sides it
    had.
    """
    height, width = z.shape[-2:]
    return F.pad(z, (0, width % 2, 0, height % 2), mode="replicate"), (height, width)


def denoiser(parts: Parts) -> Denoiser:
    """The parts' own family."""
    families: dict[str, type[Denoiser]] = {
        "LatentUNet": EmbeddedDenoiser,
        "SD3Transformer2DModel": SD3Denoiser,
        "ZImageTransformer2DModel": ZImageDenoiser,
    }
    usual = SDXLDenoiser if len(parts.text_encoders) == 2 else Denoiser
    return families.get(type(parts.unet).__name__, usual)(parts)
