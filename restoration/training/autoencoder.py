"""Train the patch codec: `python -m restoration.training.autoencoder SHARD… --out FOLDER --checkpoint FILE`.

The transform is the closed-form PCA of patches; only the predictor of the dropped coefficients is learned.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restoration.priors.networks import PatchAutoencoder
from restoration.training import data, loop


def principal_components(photographs: list[Tensor], patch: int) -> tuple[Tensor, Tensor, Tensor]:
    """(mean (n,), basis (n,n) with the components as rows in falling order, std (n,)) of patches in [-1,1], n
    = 3 patch².
    """
    rows = []
    for picture in photographs[:1500]:
        x = picture[None, :, : 256 // patch * patch, : 256 // patch * patch].float() / 127.5 - 1
        rows.append(F.unfold(x, patch, stride=patch)[0].T[::17])
    patches = torch.cat(rows).double()
    variance, vectors = torch.linalg.eigh(torch.cov(patches.T))
    return (
        patches.mean(0).float(),
        vectors.flip(1).T.contiguous().float(),
        variance.flip(0).clamp_min(0).sqrt().float(),
    )


def main(argv: list[str] | None = None, prog: str = "python -m restoration.training.autoencoder") -> None:
    parser = loop.arguments(prog, __doc__, batch=16, crop=128, rate=1e-3)
    parser.add_argument("--patch", type=int, default=4, help="down-sampling factor f")
    parser.add_argument("--channels", type=int, default=16, help="latent channels")
    parser.add_argument(
        "--start",
        metavar="FOLDER",
        help="the prior whose transform to keep: its components, then as many more as needed",
    )
    args = parser.parse_args(argv)
    torch.manual_seed(args.seed)
    training, held_out = data.split(data.load_photographs(args.shards, args.limit), args.holdout)
    model = PatchAutoencoder(patch_size=args.patch, latent_channels=args.channels)
    mean, basis, std = principal_components(training, args.patch)
    if args.start:
        known = PatchAutoencoder.from_pretrained(args.start, subfolder="vae")
        mean, basis, std = known.mean, known.basis, torch.cat([known.std, std[len(known.std) :]])
    model.mean.copy_(mean)
    model.basis.copy_(basis)
    model.std.copy_(std[: args.channels])
    test = data.centre_crops(held_out, 256 // args.patch * args.patch).to(args.device)

    def loss(model: nn.Module, step: int) -> Tensor:
        assert isinstance(model, PatchAutoencoder)
        x = data.random_crops(training, args.batch, args.crop, args.seed, step).to(args.device)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            kept, dropped = model.coefficients(x).split([args.channels, len(mean) - args.channels], 1)
            # latents that the solvers decode are never exact: up to 4/255 of noise in the [0,1] range keeps
            # details stable
            generator = torch.Generator().manual_seed(step)
            level = 2 * 4 / 255 * torch.rand(len(x), 1, 1, 1, generator=generator)
            kept = kept + (level * torch.randn(kept.shape, generator=generator)).to(kept.device)
        return ((model.detail(kept) - dropped) / model.std[-1]).square().mean()

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, PatchAutoencoder)
        scores = []
        for x in test.split(8):
            error = (model.decode(model.encode(x).latent).sample.clamp(-1, 1) - x) / 2
            scores.append(-10 * torch.log10(error.square().mean((1, 2, 3))))
        return {"round_trip_psnr": round(torch.cat(scores).mean().item(), 3)}

    print({"linear": evaluate(model)})
    loop.train(model, loss, evaluate, lambda m: save(m, args), args)


def save(model: nn.Module, args: argparse.Namespace) -> None:
    assert isinstance(model, PatchAutoencoder)
    # the transform stays in float32 (10 kB): half precision would cost the isometry
    model.save_pretrained(f"{args.out}/vae", max_shard_size="14MB")


if __name__ == "__main__":
    main()
