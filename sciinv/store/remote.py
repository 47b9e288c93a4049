"""Stores behind a URL (http, s3, …), read through fsspec; writing stays with local folders."""

from __future__ import annotations

import xarray as xr

from sciinv.errors import StoreError
from sciinv.store.atomic import SEAL, check_sizes, parse_seal


def open_remote(url: str, kind: str) -> xr.Dataset:
    """Open a store behind a URL; values are read when they are used, part by part.

    The seal is read, and the size of every file asked for, as of a local store.

    Args:
        url: Any that fsspec knows; the store's folder.
        kind: "measurement" or "summary".

    Raises:
        StoreError: fsspec or its part for this protocol is not installed, the server does not
            answer or serves no parts of files, or the store is not whole.
    """
    url = url.rstrip("/")
    try:
        import fsspec

        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise StoreError(
            "Stores behind such a URL cannot be read here",
            where=url,
            got=str(error),
            remedy='pip install what fsspec needs for the protocol: "fsspec[http]", s3fs, …',
        ) from error
    try:
        text = system.cat_file(f"{root}/{SEAL}")
        first = system.cat_file(f"{root}/{SEAL}", start=0, end=1)
    except FileNotFoundError as error:
        raise StoreError(
            "The store is not there, or not whole",
            where=url,
            expected=f"a {kind} store with its seal {SEAL}",
            got="no seal",
            remedy="check the URL; a store is whole once its seal is written",
        ) from error
    except Exception as error:  # each protocol has errors of its own
        raise StoreError(
            "The server does not give the store",
            where=url,
            got=f"{type(error).__name__}: {error}",
            remedy="check the URL, your rights and the network",
        ) from error
    if len(first) != 1:
        raise StoreError(
            "The server does not serve parts of files",
            where=url,
            expected="byte ranges (HTTP 206), which images are read by",
            got=f"{len(first)} bytes where 1 was asked for",
            remedy="use a server that does, or copy the store to a local disk",
        )
    content = parse_seal(text, kind, f"{url}/{SEAL}", remedy="check the URL")

    def size(name: str) -> int | None:
        try:
            return system.info(f"{root}/{name}")["size"]
        except FileNotFoundError:
            return None

    check_sizes(content, size, url, remedy="copy the store to the server again")
    return xr.open_dataset(url, engine="zarr", chunks=None, cache=False, consolidated=True)
