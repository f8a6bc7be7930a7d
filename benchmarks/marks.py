"""What the marks of a picture cost, and whether they are sound: PNGs of tenth's, beside the same PNGs without marks.

Usage: python benchmarks/marks.py [--count N] [--pixels P] [--tiny]. Smooth drawn pictures, each encoded both ways by turns. The
marked one is verified, its pixels are compared with those that were given, and its bytes with those of a second time.
milliseconds: the median of one picture, of the process's own time, in memory; the key is made before. ratio: those of a marked
PNG over those of a plain one. Prints one JSON object as its last line.
"""

import argparse
import json
import statistics
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from tenth.core.marks.png import encode_png
from tenth.core.marks.verify import MarkState, verify

TINY = 10


def picture(seed: int, pixels: int) -> Image.Image:
    """As smooth as a photo of a face: noise of few pixels, enlarged."""
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    return Image.fromarray(small).resize((pixels, pixels), Image.Resampling.BICUBIC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--pixels", type=int, default=256, help="width and height of a picture")
    parser.add_argument("--tiny", action="store_true", help="ten pictures, for a test")
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {"plain": [], "marked": [], "verify": []}
    sizes, states, same_pixels, same_bytes = [], [], 0, 0
    encode_png(picture(0, args.pixels))  # the key, and what is imported on first use
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        for number in range(TINY if args.tiny else args.count):
            image, contents = picture(number, args.pixels), {}
            for name, photo in (("plain", True), ("marked", False)):
                start = time.process_time()
                contents[name] = encode_png(image, photo=photo)
                seconds[name].append(time.process_time() - start)
            path.write_bytes(contents["marked"])
            start = time.process_time()
            states.append(verify(path).state)
            seconds["verify"].append(time.process_time() - start)
            sizes.append(len(contents["marked"]) - len(contents["plain"]))
            same_pixels += bool((np.asarray(Image.open(BytesIO(contents["marked"]))) == np.asarray(image)).all())
            same_bytes += encode_png(image) == contents["marked"]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "name": "marks",
        "pictures": len(states),
        "pixels": args.pixels,
        "marked": states.count(MarkState.MARKED),
        "same_pixels": same_pixels,
        "same_bytes": same_bytes,
        "bytes_of_the_marks": statistics.median(sizes),
        "milliseconds": {name: round(1000 * value, 2) for name, value in medians.items()},
        "milliseconds_of_the_marks": round(1000 * (medians["marked"] - medians["plain"]), 2),
        "ratio": round(medians["marked"] / medians["plain"], 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
