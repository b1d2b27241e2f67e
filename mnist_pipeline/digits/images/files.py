"""Image files from users, decoded into grey levels within limits of size and format."""

import io
import stat
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mnist_pipeline.digits.errors import PictureError
from mnist_pipeline.digits.images.metadata import SEVERAL, without_metadata

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")

MOST_BYTES = 50_000_000
MOST_PIXELS = 120_000_000
"""More than any phone's camera makes; Pillow decodes no file before its size is known."""

_SCAN = b"\xff\xda"
_MOST_SCANS = 200
"""A progressive JPEG has ten or so, each of which is decoded over the whole picture."""

WORKING_SIDE = 800
"""Larger pictures are shrunk to this many pixels a side: plenty for a digit of 20."""


def read(path: Path) -> bytes:
    """Read an image file.

    Raises PictureError where it is not a file that can be read, or larger than `MOST_BYTES`.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PictureError("is not a file")
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise PictureError(f"is larger than {MOST_BYTES // 10**6} MB: give a smaller picture")
    return data


def grey(data: bytes) -> npt.NDArray[np.float32]:
    """Decode a PNG, JPEG, WebP or BMP file: its luminance, upright by its EXIF orientation.

    What is transparent becomes paper: where most is opaque, of the brightness that most of it has;
    else white behind ink that is darker than mid-grey, and black behind lighter ink.

    Returned is a float32 array of shape (height, width), 0 (black) to 1 (white), no side above
    `WORKING_SIDE`. Raises PictureError where the bytes are not such an image, are damaged, hold
    several pictures or too many pixels.
    """
    from PIL import Image

    image = _decoded(data)
    image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    levels = np.asarray(image, np.float32) / np.float32(255)
    if levels.ndim == 2:
        return levels
    luminance, opacity = levels[..., 0], levels[..., 1]
    if opacity.mean() > 0.5:
        paper = np.median(luminance[opacity > 0.5])
    else:
        paper = np.float32((luminance * opacity).sum() <= 0.5 * opacity.sum())
    flat: npt.NDArray[np.float32] = luminance * opacity + paper * (1 - opacity)
    return flat


def _decoded(data: bytes) -> "Image.Image":
    """Return the image upright, its luminance and, where there is any, its opacity."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    data = without_metadata(data)
    try:
        with warnings.catch_warnings():
            # of sizes, which have a limit here, and of metadata, which are not needed
            warnings.simplefilter("ignore")
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise PictureError(
                    f"has {width:,} x {height:,} pixels: give a picture of at most "
                    f"{MOST_PIXELS // 10**6} million"
                )
            if image.format == "WEBP" and getattr(image, "n_frames", 1) > 1:
                raise PictureError(SEVERAL)
            if data.count(_SCAN) > _MOST_SCANS:
                raise PictureError("is a JPEG picture of far too many scans: save it again")
            image.draft("L", (WORKING_SIDE, WORKING_SIDE))
            image.load()
            try:
                ImageOps.exif_transpose(image, in_place=True)
            except MemoryError:
                raise
            # with damaged EXIF data, which Pillow ignores in a JPEG alone, it is taken as upright
            except Exception:  # noqa: BLE001
                pass
            if image.mode.startswith("I"):  # 16 bits a pixel, of which "L" would be the lower 8
                return Image.fromarray(np.asarray(image, np.float32) / np.float32(65535 / 255))
            return image.convert("LA" if image.has_transparency_data else "L")
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("is not a PNG, JPEG, WebP or BMP picture") from None
    except Image.DecompressionBombError:
        raise PictureError("has far too many pixels: give a smaller picture") from None
    # damaged files can fail in as many ways as Pillow's decoders have lines
    except Exception as error:  # noqa: BLE001
        raise PictureError(f"is damaged: {error}") from None
