"""Solvers for visualisations: by pixels, Fourier coefficients or phases."""

from collections.abc import Sequence

from notbugs.core.errors import check_count
from notbugs.engine import (
    L2,
    Adam,
    Box,
    ColorRoot,
    Everywhere,
    Fourier,
    Last,
    LowestValue,
    MaCo,
    Solver,
    Spectrum,
    Steepest,
)
from notbugs.representations.priors import Priors, latent_solver


def pixel_solver(steps: int = 200, step_size: float = 1.0, *, schedule: str = "constant") -> Solver:
    """A solver of normalised L2 gradient steps in pixels, without any prior.

    `step_size` in pixel units of [0, 1]; the paper's 1 is for 224 x 224 x 3 images.

    **Source**: Engstrom et al. 2019 (arXiv 1906.00945), section 4.1 and authors' code.
    **Raises** ValueError for `steps` below 1, a step not above 0, and an unknown schedule.
    """
    check_count(steps, "steps")
    return Solver(Box(), Steepest(L2(), step_size, schedule), steps, keep=LowestValue())


def default_visualisation_solver(
    priors: Priors, size: Sequence[int], steps: int | None = None
) -> Solver:
    """The default solver: for latent codes with a generator, else for pixels.

    - `size`: (height, width) of the images; `steps`: None means each solver's default
    """
    if priors.generator is not None:
        return latent_solver() if steps is None else latent_solver(steps)
    return pixel_solver(steps or 200, (size[0] * size[1]) ** 0.5 / 224)


def fourier_solver(
    steps: int = 512,
    step_size: float = 0.05,
    *,
    decay: float = 1.0,
    colors: ColorRoot | None = None,
) -> Solver:
    """A solver of Adam steps on `Fourier` coefficients, which favours smooth images.

    `colors`: see `color_root`. Mostly used with `Priors(transform=robust_view(side))`.

    **Source**: Olah et al. 2017 ("Feature Visualization", Distill).
    **Raises** ValueError for `steps` below 1, a step not above 0, and bad colours.
    """
    check_count(steps, "steps")
    waves = Fourier(decay, colors)
    return Solver(Everywhere(), Adam(step_size), steps, waves, LowestValue())


def maco_solver(
    steps: int = 256, step_size: float = 0.1, *, spectrum: Spectrum | None = None
) -> Solver:
    """A solver of Adam steps on the phases of images whose magnitude spectrum is fixed.

    Made to be used with `Priors(transform=cropped_view())`. `spectrum`: `spectrum_of(images)` of
    real images like those that the model was trained on; None: that of a 1 / f law.

    **Source**: Fel et al. 2023 (arXiv 2306.06805), section 4.
    **Differs from the paper**: Adam in place of NAdam; steps in radians, for phases as they are.
    **Raises** ValueError for `steps` below 1 and a step not above 0.
    """
    check_count(steps, "steps")
    return Solver(Everywhere(), Adam(step_size), steps, MaCo(spectrum), Last())
