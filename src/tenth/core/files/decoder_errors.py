"""What decoders of images raise on hostile bytes, as observed or by their source."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, AttributeError, AssertionError, LookupError, ArithmeticError),
    *(RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),  # the last comes from WebP too
)
