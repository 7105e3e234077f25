"""Perceptual distances between images: callables (x, center) -> one number per row."""

from notbugs.perception.ciede2000 import ColourDistance, ciede2000, colour_difference, lab
from notbugs.perception.lpips import LPIPS, CalibratedLPIPS, calibrated_lpips, lpips
from notbugs.perception.ssim import MultiScaleDistance, SSIMDistance, ms_ssim, ssim

__all__ = [
    "LPIPS",
    "CalibratedLPIPS",
    "ColourDistance",
    "MultiScaleDistance",
    "SSIMDistance",
    "calibrated_lpips",
    "ciede2000",
    "colour_difference",
    "lab",
    "lpips",
    "ms_ssim",
    "ssim",
]
