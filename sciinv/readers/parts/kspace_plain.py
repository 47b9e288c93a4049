"""k-space arrays without a header: .npy, plain HDF5 (MATLAB 7.3 too) and MATLAB 5 .mat files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sciinv.errors import DataError
from sciinv.readers.parts.hdf5 import check_size, checked_array, opened
from sciinv.readers.parts.kspace_base import Choice, KSpace, checked

AXES = ("item", "coil", "ky", "kx")
PAIRS = (("r", "i"), ("real", "imag"), ("re", "im"))  # fields of complex numbers by other writers
MOST_COILS = 64  # a last axis that is shorter, and half of the first, is hardly one of samples


class Reader:
    """Arrays of complex numbers, (coil, ky, kx) or (item, coil, ky, kx), or as `axes` says."""

    @staticmethod
    def count(path: Path, dataset: str | None = None, choice: Choice | None = None) -> int:
        """Return the length of the axis "item"; 1 where there is none."""
        with _opened_array(path, dataset) as array:
            axes = _axes(array, path, choice)
            return int(array.shape[axes.index("item")]) if "item" in axes else 1

    @staticmethod
    def load(
        path: Path, item: int, dataset: str | None = None, choice: Choice | None = None
    ) -> KSpace:
        """Return one item, its axes in order coil, ky, kx."""
        with _opened_array(path, dataset) as array:
            axes = _axes(array, path, choice)
            index = tuple(item if a == "item" else slice(None) for a in axes)
            shape = [n for n, a in zip(array.shape, axes, strict=True) if a != "item"]
            check_size(shape, array.dtype.itemsize, path)
            values = _complex(np.asarray(array[index]))
        rest = [a for a in axes if a != "item"]
        values = np.transpose(values, [rest.index(a) for a in AXES[1:]])
        return KSpace(checked(values, path), title=f"k-space of {path.stem}")


def given_array(
    value: np.ndarray | str | None, path: Path, name: str, kinds: str
) -> np.ndarray | None:
    """Return an option of `kspace.read` that is an array, or the path of a .npy file of one.

    Args:
        value: The option; None where it was not given.
        path: The file that is read, for messages.
        name: The option's name.
        kinds: Kinds of dtype that it may have.

    Raises:
        DataError: It is none of these.
    """
    if value is None:
        return None
    if isinstance(value, str | Path):
        if not str(value).endswith(".npy") or not Path(value).is_file():
            raise DataError(
                "An array that was given by its file cannot be read",
                where=f"{path}: {name}",
                expected="the path of a .npy file",
                got=value,
                remedy=f"write the array with numpy.save, and give {name}=FILE.npy",
            )
        value = _npy(Path(value))
    array = np.asarray(value)
    if array.dtype.kind not in kinds:
        words = "complex numbers, [coil, ky, kx]" if "c" in kinds else "true and false, [ky, kx]"
        raise DataError(
            "An array that was given cannot be so",
            where=f"{path}: {name}",
            expected=f"an array of {words}",
            got=f"{array.dtype} {array.shape}",
            remedy=f"correct {name}, or leave it out",
        )
    return array


def _axes(array: Any, path: Path, choice: Choice | None) -> tuple[str, ...]:
    given = choice.axes if choice is not None else None
    shape = tuple(int(n) for n in array.shape)
    if given is None:
        axes = AXES[4 - len(shape) :] if len(shape) in (3, 4) else ()
    else:
        axes = tuple(given)
    if (
        sorted(axes) not in (sorted(AXES), sorted(AXES[1:]))
        or len(axes) != len(shape)
        or 0 in shape
    ):
        raise DataError(
            "The k-space array has the wrong shape",
            where=path,
            expected=f"the axes {', '.join(given or AXES)}, of which item may be left out, none of "
            "length 0",
            got=shape,
            remedy='name the axes in the order of the array, e.g. axes=("ky", "kx", "coil")',
        )
    coils, last = shape[axes.index("coil")], shape[-1]
    if given is None and last <= min(MOST_COILS, coils // 2):
        names = ("ky", "kx", "coil") if len(shape) == 3 else ("item", "ky", "kx", "coil")
        raise DataError(
            "The coils look to be on the last axis",
            where=path,
            expected=f"({', '.join(axes)}), of shape {shape}: {coils} coils",
            got=f"an axis of {last} at the end",
            remedy=f"name the axes in the order of the array: axes={names}",
        )
    return axes


def _complex(values: np.ndarray) -> np.ndarray:
    names = values.dtype.names
    if names and len(names) == 2:
        for pair in PAIRS:
            if tuple(n.lower() for n in names) == pair:
                return values[names[0]] + 1j * values[names[1]]
    return values


def _is_complex(dtype: np.dtype) -> bool:
    names = tuple(n.lower() for n in dtype.names or ())
    return dtype.kind == "c" or names in PAIRS


@contextmanager
def _opened_array(path: Path, dataset: str | None) -> Iterator[Any]:
    # The array of the file, of HDF5 and .npy not yet in memory.
    if path.suffix == ".npy":
        yield _npy(path)
    elif path.suffix == ".mat" and not h5py.is_hdf5(path):
        yield _named(_matlab(path), path, dataset)
    else:
        with opened(path) as file:
            found: dict[str, h5py.Dataset] = {}

            def visit(name: str, value: h5py.Dataset | h5py.Group) -> None:
                if isinstance(value, h5py.Dataset):
                    found[name] = value

            file.visititems(visit)
            yield checked_array(_named(found, path, dataset), path)


def _npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy's parser of the header raises whatever it meets
        raise DataError(
            "The .npy file cannot be read",
            where=path,
            expected="a NumPy array of complex numbers",
            got=f"{type(error).__name__}: {error}",
            remedy="write it with np.save, or copy it again if it was cut off",
        ) from error


def _matlab(path: Path) -> dict[str, np.ndarray]:
    import scipy.io

    try:
        content = scipy.io.loadmat(path)
    except Exception as error:  # SciPy raises many kinds on a damaged file
        raise DataError(
            "The MATLAB file cannot be read",
            where=path,
            expected="a whole MATLAB 5 or 7.3 file",
            got=f"{type(error).__name__}: {error}",
            remedy="copy or download it again; or save it with -v7.3",
        ) from error
    return {k: v for k, v in content.items() if isinstance(v, np.ndarray)}


def _named(found: dict[str, Any], path: Path, dataset: str | None) -> Any:
    if dataset is not None and dataset.strip("/") in found:
        return found[dataset.strip("/")]
    candidates = [n for n, d in found.items() if _is_complex(d.dtype) and d.ndim in (3, 4)]
    if dataset is None and len(candidates) == 1:
        return found[candidates[0]]
    raise DataError(
        "The file does not say which array is the k-space",
        where=path,
        expected=dataset or "one complex array (coil, ky, kx) or (item, coil, ky, kx)",
        got=", ".join(f"{n} {d.dtype} {d.shape}" for n, d in found.items()) or "no array",
        remedy="name it: read(path, dataset=…)",
    )
