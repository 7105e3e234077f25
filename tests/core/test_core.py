import pytest
import torch

from notbugs.core import errors, random, rows


def test_a_row_keeps_its_draws_in_any_company() -> None:
    keys = random.row_keys(10, 7, "x")
    whole = random.normal(keys, (2, 3))
    assert torch.equal(random.normal(keys[[4, 1]], (2, 3)), whole[[4, 1]])
    assert torch.equal(random.row_keys(3, 7, "x"), keys[:3])


def test_streams_differ_by_seed_and_name() -> None:
    a, b = random.row_keys(4, 0, "a"), random.row_keys(4, 0, "b")
    assert not torch.equal(a, b)
    assert not torch.equal(random.fold(a, 1), random.fold(a, 2))
    assert not torch.equal(
        random.uniform(a, (3,)), random.uniform(random.row_keys(4, 1, "a"), (3,))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_of_the_draws(dtype) -> None:
    keys = random.row_keys(400, "moments")
    u, z = random.uniform(keys, (500,), dtype), random.normal(keys, (500,), dtype)
    assert u.dtype == z.dtype == dtype
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=0.004)
    assert float(u.var()) == pytest.approx(1 / 12, abs=0.002)
    assert float(z.mean()) == pytest.approx(0, abs=0.01)
    assert float(z.var()) == pytest.approx(1, abs=0.02)
    assert float((z**4).mean()) == pytest.approx(3, abs=0.15)
    # Neither neighbouring entries nor neighbouring rows are correlated.
    assert abs(float((z[:, 1:] * z[:, :-1]).mean())) < 0.01
    assert abs(float((z[1:] * z[:-1]).mean())) < 0.01


def test_integers_are_uniform() -> None:
    counts = torch.bincount(random.integers(random.row_keys(50_000, "i"), 5), minlength=5)
    assert bool((counts / 50_000 - 0.2).abs().max() < 0.01)


def test_the_global_generator_is_never_touched() -> None:
    state = torch.get_rng_state()
    random.normal(random.row_keys(3), (4,))
    random.generator(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_trees_are_cut_merged_and_scattered() -> None:
    tree = {"a": torch.arange(4), "b": (torch.arange(4) * 10, None)}
    assert rows.select(tree, torch.tensor([3, 1]))["b"][0].tolist() == [30, 10]
    mask = torch.tensor([True, False, True, False])
    merged = rows.merge(mask, tree, rows.select(tree, torch.tensor([3, 2, 1, 0])))
    assert merged["a"].tolist() == [0, 2, 2, 0]
    whole = rows.scatter(torch.zeros(4), torch.tensor([2]), torch.ones(1))
    assert whole.tolist() == [0, 0, 1, 0]


BAD_IMAGES = [
    (torch.full((2, 1, 2, 2), 2.6), r"`x` must lie in \[0, 1\]; got min=2.6, max=2.6.*normalises"),
    (torch.full((2, 1, 2, 2), 255.0), r"looks like 0..255: divide by 255"),
    (torch.full((2, 1, 2, 2), -0.5), r"first bad row: 0"),
    (torch.full((2, 1, 2, 2), 1.00001), r"max=1, outside by 1e-05 .* use x.clamp\(0, 1\)"),
    (torch.full((2, 1, 2, 2), -1e-5), r"outside by 1e-05 .* use x.clamp\(0, 1\)"),
    (torch.zeros(2, 2, 2), r"shape \[n, channels, height, width\].*unsqueeze"),
    (torch.zeros(0, 1, 2, 2), r"no empty dimension"),
]


@pytest.mark.parametrize(("x", "message"), BAD_IMAGES)
def test_bad_images_are_explained(x, message) -> None:
    with pytest.raises(ValueError, match=message):
        errors.check_images(x)


def test_nan_names_its_first_row() -> None:
    x = torch.zeros(3, 1, 2, 2)
    x[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"be finite; got NaN or infinity, first in row 1"):
        errors.check_images(x)


def test_integer_images_are_refused() -> None:
    with pytest.raises(TypeError, match=r"divide by 255"):
        errors.check_images(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


def test_bad_labels_are_explained() -> None:
    with pytest.raises(ValueError, match=r"`y` must lie in 0..9; got 10 in row 1"):
        errors.check_labels(torch.tensor([0, 10]), rows=2, classes=10)
    with pytest.raises(ValueError, match=r"have shape \(3,\).*not one-hot"):
        errors.check_labels(torch.tensor([0, 1]), rows=3, classes=10)
    with pytest.raises(TypeError, match=r"class indices"):
        errors.check_labels(torch.tensor([0.0]), rows=1, classes=10)
    with pytest.raises(ValueError, match=r"`targets` must differ from `y` in every row.*row 1"):
        errors.check_targets(torch.tensor([1, 2]), torch.tensor([0, 2]))


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown dataset 'digts'. Did you mean 'digits'"):
        raise errors.unknown_name("dataset", "digts", ["digits", "mnist"])
    with pytest.raises(ValueError, match=r"^Unknown dataset 'zzz'. Known: digits, mnist.$"):
        raise errors.unknown_name("dataset", "zzz", ["digits", "mnist"])
