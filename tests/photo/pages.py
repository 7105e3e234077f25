"""Small sheets, and photographs of them, for the tests."""

import random

import torch
from torch.nn.functional import interpolate

from notbugs.data import ImageData
from notbugs.photo import Camera, lay_out, page_pixels, photograph

DPI = 127  # 5 pixels a mm: edges fall between pixels
SIMPLE = Camera()
PRINT = {"ink": (0.04, 0.05, 0.06), "white": (0.92, 0.9, 0.87), "tone": 1.1, "dots": 0.8}


def images(n=12, channels=3, side=16, seed=0) -> ImageData:
    """Smooth random colours, uint8, in 3 classes."""
    coarse = torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    pixels = (interpolate(coarse, (side, side), mode="bilinear") * 255).round().to(torch.uint8)
    return ImageData(pixels, torch.arange(n) % 3, ("a", "b", "c"), "smooth")


def printed(data=None, **settings):
    """A set and its sheet: every other image adversarial."""
    data = images() if data is None else data
    kinds = ["clean" if i % 2 == 0 else "fgsm" for i in range(len(data))]
    return data, lay_out(data, kinds, [i // 2 for i in range(len(data))], **settings)


def taken(data, sheet, camera=SIMPLE, page=0, dpi=DPI):
    """A photograph of a page and its true homography."""
    return photograph(page_pixels(sheet, data, page, dpi), camera)


def any_camera(seed) -> Camera:
    """Random angles up to 35 degrees, light, noise, and compression."""
    draw = random.Random(seed)
    return Camera(
        **PRINT,
        roll=draw.uniform(-180, 180),
        tilt=draw.uniform(-35, 35),
        turn=draw.uniform(-35, 35),
        scale=draw.uniform(0.5, 0.8),
        slope=draw.uniform(0, 0.6),
        slope_angle=draw.uniform(0, 360),
        vignetting=draw.uniform(0, 0.4),
        blur=draw.uniform(0.3, 1.2),
        exposure=draw.uniform(0.9, 1.2),
        balance=(draw.uniform(0.9, 1.1), 1.0, draw.uniform(0.8, 1.1)),
        shot=draw.uniform(0, 0.03),
        read=draw.uniform(0, 0.02),
        quality=draw.randint(60, 95),
        seed=seed,
    )
