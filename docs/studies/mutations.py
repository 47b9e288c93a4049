"""Good files of every format that sciinv reads, and ways to damage them: for `mutate_readers`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

REPO = Path(__file__).resolve().parents[2]


# ---------------------------------------------------------------- good files


def _kspace(h: int = 48, w: int = 40, coils: int = 4) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.arange(h) - h // 2, np.arange(w) - w // 2, indexing="ij")
    image = np.exp(-((y / 7.0) ** 2) - (x / 10.0) ** 2)
    maps = np.stack([np.exp(1j * c) * (1 + 0.3 * np.cos(c + x / w * 3)) for c in range(coils)])
    maps = maps * (1 + 0.3 * np.sin(np.arange(coils)[:, None, None] + y / h * 3))
    axes = (1, 2)
    k = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image * maps, axes=axes), norm="ortho"), axes)
    noise = rng.standard_normal(k.shape) + 1j * rng.standard_normal(k.shape)
    return (k + 0.03 * noise).astype(np.complex64)


HEADER = (
    "<ismrmrdHeader><encoding><encodedSpace><matrixSize><x>{w}</x><y>{h}</y><z>1</z></matrixSize>"
    "<fieldOfView_mm><x>240</x><y>240</y><z>5</z></fieldOfView_mm></encodedSpace><reconSpace>"
    "<matrixSize><x>{w}</x><y>{h}</y><z>1</z></matrixSize><fieldOfView_mm><x>240</x><y>240</y>"
    "<z>5</z></fieldOfView_mm></reconSpace><encodingLimits><kspace_encoding_step_1><center>{c}"
    "</center></kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory>"
    "</encoding></ismrmrdHeader>"
)


def _ismrmrd(path: Path) -> None:
    counters = [
        (n, "<u2") for n in ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice",
                             "contrast", "phase", "repetition", "set", "segment")
    ]  # fmt: skip
    small = ("number_of_samples", "active_channels", "discard_pre", "discard_post",
             "center_sample", "encoding_space_ref")  # fmt: skip
    head = np.dtype([("flags", "<u8"), *((n, "<u2") for n in small), ("sample_time_us", "<f4"),
                     ("idx", counters)])  # fmt: skip
    kind = np.dtype([("head", head), ("data", h5py.vlen_dtype(np.float32))])
    k = _kspace()
    with h5py.File(path, "w") as file:
        data = file.create_dataset("dataset/data", (k.shape[1],), kind)
        for ky in range(k.shape[1]):
            row = np.zeros(1, kind)
            row["head"][0]["number_of_samples"], row["head"][0]["active_channels"] = 40, 4
            row["head"][0]["center_sample"] = 20
            row["head"][0]["idx"]["kspace_encode_step_1"] = ky
            row["data"][0] = np.ascontiguousarray(k[:, ky]).reshape(-1).view(np.float32)
            data[ky] = row[0]
        xml = HEADER.format(h=48, w=40, c=24)
        file.create_dataset("dataset/xml", data=np.array([xml], object), dtype=h5py.string_dtype())


def _counts() -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    views, n = 60, 48
    theta = np.arange(views) * 3.0
    k = np.arange(n)
    centre = 25.0 + 5 * np.cos(np.deg2rad(theta))[:, None]
    y = 0.06 * np.sqrt(np.clip(144 - (k - centre) ** 2, 0, None))
    counts = 100 + rng.poisson(20000 * np.exp(-y))
    parts = {
        "data": counts[:, None].astype(np.uint16),
        "data_white": (100 + rng.poisson(20000, (10, 1, n))).astype(np.uint16),
        "data_dark": np.full((5, 1, n), 100, np.uint16),
        "theta": theta,
    }
    return parts, y + 0.007 * rng.standard_normal(y.shape)


def _uvfits(path: Path) -> None:
    from sciinv.readers import uvfits

    rng = np.random.default_rng(1)
    a, b = np.triu_indices(5, 1)
    place = rng.uniform(-2e6, 2e6, (5, 2))
    hours = np.repeat(np.arange(4) * 0.5, len(a))
    a, b = np.tile(a, 4), np.tile(b, 4)
    uv = (place[a] - place[b]) * 230e9 / 3e8 * (1 + 0.05 * hours[:, None])
    vis = 0.9 * np.exp(-((np.hypot(*uv.T) / 6e9) ** 2)) + 0.01 * rng.standard_normal(len(a))
    table = uvfits.VisibilityTable(
        time=hours, station1=a, station2=b, u=uv[:, 0], v=uv[:, 1], vis=vis + 0j,
        sigma=np.full(len(a), 0.01), integration=np.full(len(a), 10.0),
        stations=tuple("ABCDE"), positions=np.column_stack([1.3 * place, np.ones(5)]),
        frequency=230e9, bandwidth=2e9, source="X", ra=1.0, dec=2.0, mjd=58000,
    )  # fmt: skip
    uvfits.write(path, table)


def good(reader: str, folder: Path) -> Path:
    """Write a good file for a reader and return its path."""
    names = {"uvfits": "a.uvfits", "kspace-npy": "a.npy", "bart": "a.cfl", "htc2022": "a.mat"}
    path = folder / names.get(reader, "a.h5")
    if reader == "uvfits":
        _uvfits(path)
    elif reader == "kspace-npy":
        np.save(path, _kspace())
    elif reader == "fastmri":
        with h5py.File(path, "w") as file:
            file["kspace"] = _kspace()[None]
            file["ismrmrd_header"] = HEADER.format(h=40, w=48, c=20)
    elif reader == "ismrmrd":
        _ismrmrd(path)
    elif reader == "bart":
        k = _kspace()
        path.with_suffix(".hdr").write_text("# Dimensions\n48 40 1 4\n")
        np.moveaxis(k, 0, -1)[:, :, None].flatten("F").tofile(path)
    elif reader == "htc2022":
        shutil.copy(REPO / "data/ct/htc2022_ta_full.mat", path)
    elif reader == "projections":
        import tifffile

        path = folder / "scan.tif"
        names = {"data": path.name, "data_white": "flats.tif", "data_dark": "darks.tif"}
        for part, name in names.items():
            frames = _counts()[0][part].repeat(2, axis=1)
            tifffile.imwrite(folder / name, frames, photometric="minisblack")
    elif reader == "dxchange":
        with h5py.File(path, "w") as file:
            for name, value in _counts()[0].items():
                file[f"exchange/{name}"] = value
    else:
        with h5py.File(path, "w") as file:
            file["y"] = _counts()[1].astype(np.float32)
    return path


# ---------------------------------------------------------------- mutations


def cut(path: Path, rng: np.random.Generator) -> None:
    """Keep the first part of a file."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(rng.integers(0, len(raw)))])


def flip(path: Path, rng: np.random.Generator, count: int = 8) -> None:
    """Change some bytes anywhere."""
    raw = bytearray(path.read_bytes())
    for i in rng.integers(0, len(raw), count):
        raw[i] ^= int(rng.integers(1, 256))
    path.write_bytes(bytes(raw))


def flip_head(path: Path, rng: np.random.Generator) -> None:
    """Change some bytes of the beginning, where headers lie."""
    raw = bytearray(path.read_bytes())
    for i in rng.integers(0, min(len(raw), 4096), 4):
        raw[i] = int(rng.integers(0, 256))
    path.write_bytes(bytes(raw))


def huge(path: Path, rng: np.random.Generator) -> None:
    """Write a huge number into a header."""
    number = str(10 ** int(rng.integers(5, 18)))
    if path.suffix == ".cfl":
        path.with_suffix(".hdr").write_text(f"# Dimensions\n{number} {number} 1 4\n")
    elif path.suffix == ".npy":
        raw = path.read_bytes()
        path.write_bytes(raw.replace(b"(4, 48, 40)", f"(4, 48, {number})".encode())[: len(raw)])
    elif path.suffix == ".uvfits":
        raw = path.read_bytes()
        key = [b"GCOUNT", b"NAXIS3", b"NAXIS4", b"PCOUNT"][int(rng.integers(4))]
        at = raw.find(key + b" " * (8 - len(key)))
        path.write_bytes(raw[: at + 10] + number.encode().rjust(20) + raw[at + 30 :])
    elif path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            name = _largest(file)
            kind = file[name].dtype if file[name].dtype.names is None else np.dtype("f4")
            shape = (*file[name].shape[:-1], int(number[:10]))
            _replace(file, name, None, shape=shape, dtype=kind, chunks=True)
    else:
        flip_head(path, rng)


def _largest(file: h5py.File) -> str:
    found: dict[str, int] = {}
    file.visititems(
        lambda n, d: found.__setitem__(n, d.size) if isinstance(d, h5py.Dataset) else None
    )
    return max(found, key=lambda n: found[n])


def _replace(file: h5py.File, name: str, value: Any, **how: Any) -> None:
    del file[name]
    file.create_dataset(name, data=value, **how)


def _arrays(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change the array that a file holds most of."""
    if path.suffix == ".npy":
        np.save(path, change(np.load(path)))
    elif path.suffix == ".cfl":
        change(np.fromfile(path, np.complex64)).astype(np.complex64).tofile(path)
    elif path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            name = _largest(file)
            if file[name].dtype.names is None:
                _replace(file, name, change(file[name][()]))
                return
            rows = file[name][()]
            for i in range(len(rows)):
                rows[i]["data"] = change(rows[i]["data"]).astype(np.float32).ravel()
            file[name][...] = rows
    elif path.suffix == ".uvfits":
        from astropy.io import fits

        with fits.open(path, memmap=False) as hdus:
            data = hdus[0].data["DATA"]
            new = change(np.asarray(data))
            if new.shape == data.shape:
                data[...] = new
            hdus.writeto(path, overwrite=True)
    elif path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, change(tifffile.imread(path)))
    else:
        import scipy.io

        content = scipy.io.loadmat(path)
        name = next(k for k in content if k.startswith("CtData"))
        scan = content[name][0, 0]
        scan["sinogram"] = change(scan["sinogram"])
        scipy.io.savemat(path, {name: content[name]})


def holes(path: Path, rng: np.random.Generator) -> None:
    """Put NaN, infinity, huge or extreme values into the data."""
    value = [np.nan, np.inf, -np.inf, 1e38, 0.0][int(rng.integers(5))]
    share = float(rng.choice([1e-3, 0.1, 1.0]))

    def change(a: np.ndarray) -> np.ndarray:
        out = a.copy()
        here = rng.random(a.shape) < share
        whole = a.dtype.kind in "iu"
        out[here] = np.iinfo(a.dtype).max if whole else value
        return out

    _arrays(path, change)


def retyped(path: Path, rng: np.random.Generator) -> None:
    """Store the data in another dtype or byte order."""
    kinds = ["f2", "i2", "u1", "c8", ">f4", "?", "S4"]
    kind = kinds[int(rng.integers(len(kinds)))]

    def change(a: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            if kind == ">f4":
                return a.view(a.dtype.newbyteorder())
            real = a.real if kind != "c8" and a.dtype.kind == "c" else a
            return real.astype(kind)

    _arrays(path, change)


def turned(path: Path, rng: np.random.Generator) -> None:
    """Swap, drop, add or reverse axes."""
    ways: list[Callable[[np.ndarray], np.ndarray]] = [
        lambda a: a.T, lambda a: a[0] if a.ndim > 1 else a, lambda a: a[None],
        lambda a: a.ravel(), lambda a: a[:0], lambda a: a[..., :1], lambda a: np.moveaxis(a, 0, -1),
    ]  # fmt: skip
    _arrays(path, ways[int(rng.integers(len(ways)))])


def scaled(path: Path, rng: np.random.Generator) -> None:
    """Multiply the data by a number, or set them to one."""
    factor = float(rng.choice([-1.0, 1e3, 1e9, 1e-12, 0.0]))
    _arrays(path, lambda a: (a * factor).astype(a.dtype) if factor else np.ones_like(a))


def emptied(path: Path, rng: np.random.Generator) -> None:
    """Remove an entry of a file, or replace it by another kind."""
    if path.suffix != ".h5":
        cut(path, rng)
        return
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = names[int(rng.integers(len(names)))]
        del file[name]
        way = int(rng.integers(3))
        if way == 1:
            file[name] = "text"
        elif way == 2:
            file.create_group(name)


MUTATIONS = (cut, flip, flip_head, huge, holes, retyped, turned, scaled, emptied)
