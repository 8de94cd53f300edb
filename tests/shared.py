"""What tests share; brought in by conftest.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
import torch
from browsing import Lender
from ports import free_port
from tiny_models import KINDS, WORDS, letters_tokenizer, measured, plain_vae, save_pipeline
from torch import Tensor

from restoration.files import recipe, sandbox
from restoration.priors import placement
from restoration.priors.latent import LatentPrior, load_prior
from restoration.priors.networks import LatentUNet, PatchAutoencoder
from restoration.priors.parts import Parts
from restoration.priors.placement import Placement
from restoration.training.schedule import geometric_betas

LENDERS: list[Lender] = []  # of this process


def of_the_browser(item: pytest.Item) -> bool:
    return "browser" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the browser first, one after the other: they share pages, which take time while they stand
    open.
    """
    items.sort(key=lambda item: not of_the_browser(item))


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    if of_the_browser(item) and not (nextitem and of_the_browser(nextitem)):
        for lender in LENDERS:
            lender.close()


@pytest.fixture(autouse=True)
def kept_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No garbage is looked for when a prior moves: all that tests import is looked through each time, which
    takes a third of a second. `test_placement.py` tests that it is given back.
    """
    monkeypatch.setattr(placement, "release", lambda: None)


@pytest.fixture(scope="session")
def embedded() -> LatentPrior:
    return load_prior("embedded", "cpu")


@pytest.fixture
def tiny_prior() -> LatentPrior:
    """A random codec and denoiser of the embedded classes."""
    from diffusers import DDIMScheduler

    torch.manual_seed(0)
    unet = LatentUNet(latent_std=(1.0,) * 16, widths=(8, 8), blocks=1, embedding=16)
    betas = geometric_betas(unet.config.sigma_min, unet.config.sigma_max, 1000)
    scheduler = DDIMScheduler(trained_betas=betas, prediction_type="sample")
    return LatentPrior("tiny", Parts(PatchAutoencoder(width=8, depth=1), unet, scheduler), Placement("cpu"))


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random Stable Diffusion, saved as its own pipeline saves it: the classes and the layout of the
    real checkpoints.
    """
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    blocks = ("DownBlock2D", "CrossAttnDownBlock2D"), ("CrossAttnUpBlock2D", "UpBlock2D")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            8, down_block_types=blocks[0], up_block_types=blocks[1], block_out_channels=(8, 16),
            layers_per_block=1,
            cross_attention_dim=16, attention_head_dim=8, norm_num_groups=4,
        )  # fmt: skip
        vae = plain_vae()
        config = CLIPTextConfig(
            vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=12,
            bos_token_id=0, eos_token_id=1, pad_token_id=1,
        )  # fmt: skip
        text_encoder = CLIPTextModel(config)
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    folder = tmp_path_factory.mktemp("text") / "prior"
    StableDiffusionPipeline(
        vae, text_encoder, letters_tokenizer(), unet, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def text_prior(text_folder: str) -> LatentPrior:
    prior = load_prior.__wrapped__(text_folder, "cpu")
    prior.isometric, prior.gain = measured(Path(text_folder))
    return prior


class Folders(dict):
    """Of each kind of tiny_models, made where it is asked for."""

    def __init__(self, root: Path):
        super().__init__()
        self.root = root

    def __missing__(self, kind: str) -> Path:
        save_pipeline(kind, self.root / kind)
        self[kind] = self.root / kind
        return self[kind]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Of each kind of tiny_models."""
    return Folders(tmp_path_factory.mktemp("priors"))


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each of tiny_models.KINDS."""
    return request.param


@pytest.fixture
def photo() -> Tensor:
    """(1,3,96,96): a real photograph, public domain (scikit-image's astronaut)."""
    from skimage.data import astronaut

    return torch.from_numpy(astronaut()[:192:2, 160:352:2].copy()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture
def picture(tmp_path: Path, photo: Tensor) -> str:
    """The file of `photo`."""
    recipe.save_png(photo, tmp_path / "photo.png", {})
    return str(tmp_path / "photo.png")


@pytest.fixture
def upload_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of uploads of one's own."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder))
    return folder


@pytest.fixture
def apart() -> Iterator[None]:
    """Pictures are opened in a process apart, as on a page."""
    if not sandbox.AVAILABLE:
        pytest.skip("needs Linux")
    before = sandbox.enabled()
    sandbox.enable()
    yield
    (sandbox.enable if before else sandbox.disable)()


@pytest.fixture(scope="session")
def blocks() -> gr.Blocks:
    """The page, not served."""
    from restoration.page import layout

    return layout.build()


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The page, served as `python app.py` serves it."""
    from restoration.page import layout as app

    page = app.build()
    # Gradio tries one port after the other, at which two processes may meet
    place = {"server_name": "127.0.0.1", "server_port": free_port()}
    _, url, _ = page.launch(prevent_thread_lock=True, quiet=True, **place, **app.LAUNCH)
    yield url
    page.close()


@pytest.fixture(scope="session")
def browser():
    """A real browser; its tests are skipped where there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lender(browser, address) -> Iterator[Lender]:
    LENDERS.append(Lender(browser, address))
    yield LENDERS[-1]
    LENDERS.pop().close()


@pytest.fixture
def lend(lender: Lender) -> Iterator[Lender]:
    """`lend(width, method, who)`: the page of a visitor, as it opened."""
    yield lender
    lender.take_back()


@pytest.fixture
def tab(lend):
    """A page of a visitor, as it opened at RELD's tab."""
    return lend()
