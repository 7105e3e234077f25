"""Import and export in other formats: .npz archives, and lists of tensors saved by torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from notbugs.core.errors import DataError, bad_value, check_dense
from notbugs.core.limits import CLASSES, memory_shortage
from notbugs.core.schema import read_json
from notbugs.core.strict_json import to_json
from notbugs.data.dataset import JSON, ImageData
from notbugs.data.writing import write_file

COLUMN = "column_"


@dataclass(frozen=True)
class ArchiveInfo:
    """The metadata of a set in an archive."""

    name: str | None = None
    provenance: dict[str, Any] | None = None


def export_npz(data: ImageData, path: Path | str) -> None:
    """Writes a set as a NumPy archive: `images`, `labels`, `class_names`, `column_*`, `about`.

    Nothing in it is pickled; dtypes are kept; `about` is the name and provenance as JSON.

    **Raises** StoreError where the disk is full or the folder cannot be written.
    """
    path = Path(path)
    arrays: dict[str, Any] = {
        "images": data.images.cpu().numpy(),
        "labels": data.labels.cpu().numpy(),
        "class_names": np.array(data.class_names),
        "about": np.array(to_json(asdict(ArchiveInfo(data.name, dict(data.provenance))))),
    }
    arrays |= {f"{COLUMN}{name}": column.cpu().numpy() for name, column in data.columns.items()}
    write_file(path, lambda file: np.savez_compressed(file, **arrays))


def import_npz(
    path: Path | str, *, name: str | None = None, class_names: Sequence[str] | None = None
) -> ImageData:
    """A set from a NumPy archive with `images` [n, c, h, w] or [n, h, w] and `labels` [n].

    Or with `image` [n, h, w, c] and `label` [n], as the generated images that Wang et al. 2023
    (arXiv 2302.04638) published. Images are uint8, or floats in [0, 1] (kept as float32).

    - `class_names`: in place of those in the archive; where there are none either, numbers up to
      the largest label

    **Raises** DataError where the file is missing, corrupt, needs pickle, or holds something
    else.
    """
    path = Path(path)
    arrays = _plural(_npz_arrays(path))
    missing = [key for key in ("images", "labels") if key not in arrays]
    if missing:
        raise DataError(
            f"'{path}' lacks {' and '.join(missing)}; it holds {', '.join(arrays) or 'nothing'}."
        )
    try:
        of = f"`about` in '{path}'"
        about = read_json(
            ArchiveInfo, str(arrays.get("about", "{}")), of=of, remedy="Make it again."
        )
        imported = {"recipe": "import", "file": path.name}
        columns = {
            key.removeprefix(COLUMN): torch.from_numpy(array)
            for key, array in arrays.items()
            if key.startswith(COLUMN)
        }
        names = arrays.get("class_names") if class_names is None else class_names
        return _checked(
            path,
            torch.from_numpy(arrays["images"]),
            torch.from_numpy(arrays["labels"]),
            None if names is None else [str(n) for n in names],
            name or about.name or path.stem,
            imported if about.provenance is None else about.provenance,
            columns,
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"'{path}' does not hold a valid set: {error}") from error


def import_torch_lists(
    images_path: Path | str,
    labels_path: Path | str,
    *,
    class_names: Sequence[str] | None = None,
    name: str = "imported",
) -> ImageData:
    """A set from the two files in which Ilyas et al. published theirs (CIFAR_ims, CIFAR_lab).

    Each was written by `torch.save`. Images: one tensor [n, c, h, w], or a list of images
    [c, h, w] or batches [b, c, h, w]. Labels: one tensor [n], or a list of integers or of
    tensors [] or [b]. Only tensors, lists and numbers are read (`weights_only=True`);
    nothing in the files is executed.

    **Raises** DataError where a file is missing, corrupt, holds anything else, or the two do
    not match.
    """
    images_path, labels_path = Path(images_path), Path(labels_path)
    images = _joined(images_path, _torch_load(images_path), 4)
    labels = _joined(labels_path, _torch_load(labels_path), 1)
    provenance = {"recipe": "import", "files": [images_path.name, labels_path.name]}
    try:
        return _checked(images_path, images, labels, class_names, name, provenance, {})
    except (TypeError, ValueError) as error:
        raise DataError(f"'{images_path}' and '{labels_path}' do not match: {error}") from error


def _plural(arrays: dict[str, Any]) -> dict[str, Any]:
    """`image` and `label` under the names `images` and `labels`, with the channels first."""
    if "image" in arrays and "images" not in arrays:
        images = arrays.pop("image")
        last = images.ndim == 4 and not images.shape[1] <= 4 < images.shape[3]
        arrays["images"] = np.ascontiguousarray(images.transpose(0, 3, 1, 2) if last else images)
        arrays.setdefault("labels", arrays.pop("label", None))
    return {name: array for name, array in arrays.items() if array is not None}


def _npz_arrays(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"No data file '{path}'. Check the path.")
    try:
        # NumPy leaves a bad file open; `with` does not.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            # The directory's sizes bound what is unpacked, whatever the arrays' headers say.
            directory = [] if archive.zip is None else archive.zip.infolist()
            if lacking := memory_shortage(sum(info.file_size for info in directory)):
                raise ValueError(lacking)
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # NumPy and zipfile raise nearly anything for a bad file
        raise DataError(
            f"'{path}' is not a sound .npz archive of plain arrays ({error}). "
            "Pickled objects are never read."
        ) from error


def _torch_load(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"No data file '{path}'. Check the path.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and pickle raise nearly anything for a bad file
        raise DataError(
            f"'{path}' cannot be read as tensors alone: it is corrupt, or a pickle of other "
            "objects, which notbugs never unpickles. Save a list of tensors with torch.save."
        ) from error


def _joined(path: Path, content: Any, ndim: int) -> Tensor:
    """One tensor of `ndim` dimensions from a tensor or a list of rows and batches."""
    try:
        parts = [content] if isinstance(content, Tensor) else [torch.as_tensor(p) for p in content]
        if not parts:
            raise ValueError("it is empty")
        for i, part in enumerate(parts):
            check_dense(part, f"item {i}")
        return torch.cat([p[None] if p.ndim == ndim - 1 else p for p in parts])
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"'{path}' does not hold a tensor or a list of tensors of one shape ({error})."
        ) from error


def _checked(
    path: Path,
    images: Tensor,
    labels: Tensor,
    class_names: Sequence[str] | None,
    name: str,
    provenance: Mapping[str, JSON],
    columns: Mapping[str, Tensor],
) -> ImageData:
    """The set, with images and labels converted to `ImageData`'s dtypes and dimensions."""
    images = images[:, None] if images.ndim == 3 else images
    images = images.float() if images.is_floating_point() else images
    if images.ndim == 4 and images.shape[1] > 4 >= images.shape[3]:
        raise DataError(
            f"The images in '{path}' have shape {tuple(images.shape)}: the channels seem to "
            "come last. Transpose them to [n, channels, height, width]."
        )
    if not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool):
        labels = labels.long()
    if class_names is None:
        check_dense(labels, "labels")
        highest = int(labels.max()) if labels.dtype == torch.int64 and len(labels) else 0
        if highest >= CLASSES:
            raise bad_value("labels", f"lie below {CLASSES:,}, the most classes", f"{highest:,}")
        class_names = [str(i) for i in range(max(highest, 0) + 1)]
    return ImageData(images, labels, tuple(class_names), name, provenance, columns)
