"""Figures that papers published, for the rows beside ours.

Each: RGB PSNR, SSIM of the Y channel, LPIPS with AlexNet, means over the set, all at 256×256.

LD-RPS (arXiv 2507.00790, ICCV 2025): main tables for its own row and those of its competitors, ablation
tables for the recurrences R and the text. Its main tables and the best rows of its ablations differ (17.45
and 17.73 on LOLv1); both are given. No table of RELD or LatentINDIGO could be read.
"""

from __future__ import annotations

Scores = dict[str, float]


def _row(psnr: float, ssim: float | None = None, lpips: float | None = None) -> Scores:
    return {
        name: value
        for name, value in {"PSNR": psnr, "SSIM-Y": ssim, "LPIPS": lpips}.items()
        if value is not None
    }


def _ablations(recurrences: tuple[float, float, float, float], without_text: float) -> dict[str, Scores]:
    rows = {f"LD-RPS, ablation R = {r}": _row(psnr) for r, psnr in enumerate(recurrences)}
    return rows | {"LD-RPS, ablation without text": _row(without_text)}


PUBLISHED: dict[str, dict[str, Scores]] = {
    "LOLv1": {
        "DiffUIR (trained on such pairs)": _row(21.36, 0.907, 0.125),
        "LD-RPS": _row(17.45, 0.804, 0.277),
        "ZERO-IG": _row(17.22, 0.794, 0.184),
        "GDP": _row(16.52, 0.690, 0.261),
        "TAO": _row(15.84, 0.757, 0.363),
        "ZDCE++": _row(14.38, 0.523, 0.240),
    }
    | _ablations((16.78, 17.21, 17.73, 17.10), 16.03),
    "RESIDE-HSTS": {
        "LD-RPS": _row(21.45, 0.813, 0.177),
        "YOLY": _row(20.49, 0.794, 0.108),
        "AOD-Net": _row(19.15, 0.860, 0.129),
        "TAO": _row(18.38, 0.823, 0.147),
        "GDP": _row(13.15, 0.757, 0.144),
    }
    | _ablations((19.35, 20.38, 20.83, 21.60), 19.63),
    "Kodak24": {
        "Prompt-SID": _row(30.58, 0.866, 0.097),
        "Blind2Unblind": _row(29.35, 0.836, 0.141),
        "LD-RPS": _row(28.64, 0.841, 0.175),
        "TAO": _row(27.72, 0.815, 0.179),
    }
    | _ablations((27.75, 28.60, 28.26, 28.49), 28.13),
}
