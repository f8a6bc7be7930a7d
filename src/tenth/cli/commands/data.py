"""`tenth data`: a data set -> DIR/people.jsonl -> files to train on. Counts go to stdout, what to know to stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenth.cli.parameters import (
    AnySplit,
    AttributesFile,
    AttributesTable,
    EncodedFolder,
    Fold,
    LfwSource,
    ManifestFolder,
    Model,
    PeopleFile,
    PeopleFolder,
    PhotosFolder,
    RayAddress,
    VerifyShards,
    Workers,
)
from tenth.core.console import print_message, print_result
from tenth.core.wording import format_bytes, pluralize, printable

if TYPE_CHECKING:
    from tenth.data.manifest import ManifestSummary


def lfw(source: LfwSource, output: ManifestFolder, attributes: AttributesFile = None, fold: Fold = 0) -> int:
    """Check, split and caption Labeled Faces in the Wild; write DIR/people.jsonl."""
    from tenth.data.lfw import prepare_lfw

    return _print_summary(prepare_lfw(source, output, attributes, fold=fold))


def attributes(people: PeopleFile, photos: PhotosFolder, output: AttributesTable, split: AnySplit = "all") -> int:
    """Read what photos show by the package's own classifier, where no attribute table is at hand.

    Writes the CSV that `tenth data lfw --attributes` reads. What the classifier does not know stays empty. What was read is
    kept: the same command goes on with what was stopped.
    """
    from tenth.core.cache import ArrayCache, default_cache_dir
    from tenth.core.errors import DataError
    from tenth.core.files.writing import write_bytes
    from tenth.data.faces.crops import PhotoDataset
    from tenth.evaluation.attribute_table import attribute_table, count_unknown
    from tenth.evaluation.extractors.face_attributes import load_face_attributes

    if output.exists():
        raise DataError(f"{output} exists", "a new file is needed", "Choose another -o, or remove it")
    dataset = PhotoDataset(people, photos)
    entries = dataset.entries(split)
    table = attribute_table(dataset, entries, load_face_attributes(), ArrayCache(default_cache_dir()))
    if (unknown := count_unknown(table)) == len(entries):
        found = f"nothing is known of any of the {pluralize(len(entries), 'photo')}: no face, or none that is read surely"
        raise DataError(found, "photos of faces are needed", "Check the folder of photos; nothing was written")
    write_bytes(output, table.encode(), no_overwrite=True)
    print_message(f"read by a classifier, with errors (docs/data.md): {pluralize(len(entries), 'photo')}")
    if unknown:
        print_message(f"{pluralize(unknown, 'photo')} of them with no face, or none that is read surely: their lines are empty")
    print_result(output)
    return 0


def image_folder(source: PeopleFolder, output: ManifestFolder, workers: Workers = 0, ray: RayAddress = "") -> int:
    """Check, split and caption photos of your own people; write DIR/people.jsonl.

    SOURCE has a folder for each person, with their photos in it. A text file of the same name beside a photo is its caption:
    photo.jpg, photo.txt. DIR/report.json has what was dropped, and why. The same command goes on with what was stopped; what
    was opened is not opened again. See docs/data.md.
    """
    from tenth.data.image_folder import prepare_folder

    return _print_summary(prepare_folder(source, output, workers=workers, ray=ray))


def encode(
    people: PeopleFile,
    photos: PhotosFolder,
    output: EncodedFolder,
    model: Model = "pocket",
    workers: Workers = 0,
    ray: RayAddress = "",
    verify: VerifyShards = False,
) -> int:
    """Encode the training people into files, for training sets that memory cannot hold.

    A recipe reads DIR by the key `encoded`. What was stopped goes on by the same command, and a damaged file is done again.
    """
    from tenth.data.faces.crops import PhotoDataset
    from tenth.training.adapter.sharded_encoding import EncodeOptions, encode_training_set

    reports = encode_training_set(PhotoDataset(people, photos), output, model, EncodeOptions(workers, ray, verify))
    kept_people, kept_photos = sum(each.people for each in reports), sum(each.photos for each in reports)
    lost_photos, lost_people = sum(each.dropped_photos for each in reports), sum(each.dropped_people for each in reports)
    size = format_bytes(sum(each.num_bytes for each in reports))
    kept = (
        f"{pluralize(kept_people, 'person')}, {pluralize(kept_photos, 'photo')}, {size} in {pluralize(len(reports), 'shard')}"
    )
    print_message(
        f"left out: {pluralize(lost_photos, 'photo')} without a face, {pluralize(lost_people, 'person')} with fewer than two"
    )
    print_message(kept)
    print_result(output)
    return 0


def _print_summary(summary: ManifestSummary) -> int:
    print_message(*summary.notes)
    print_result("\n".join(map(printable, str(summary).split("\n"))))
    return 0
