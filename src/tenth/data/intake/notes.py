"""What the user should know of a folder of people: what was passed over, which captions are used, who has too few photos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tenth.core.wording import MAX_ITEMS, abbreviate, pluralize
from tenth.data.captions.sidecar_files import CAPTION_SUFFIXES, CAPTIONS_PER_PHOTO
from tenth.data.captions.templates import UNKNOWN_PERSON
from tenth.data.intake.journal import JournalPhoto
from tenth.data.intake.person_folders import PersonFolder
from tenth.data.splits import MIN_EVALUATION_PHOTOS, SPLITS, Split, split_by_name

PHOTO_COUNT_NOTES = {  # of people with so many usable photos
    range(1): "no usable photo ({}): left out",
    range(1, 2): "a single usable photo ({}): to measure, or to train on several, another is needed; add photos",
    range(2, MIN_EVALUATION_PHOTOS): "two to nine usable photos ({}): what asks for nine references and a tenth photo passes"
    " them over; add photos, or ask for fewer references (`references` in a recipe, --references of `tenth benchmark export`)",
}


@dataclass
class Mentions:
    """People or files of which one thing is said: how many, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, *names: str) -> None:
        self.count += len(names)
        self.first += names[: MAX_ITEMS + 1 - len(self.first)]

    def sentences(self, noun: str, text: str) -> Iterator[str]:
        """'3 photos have TEXT', unless there are none. {} in the text: the first of them."""
        if self.count:
            verb, names = "has" if self.count == 1 else "have", abbreviate(self.first, count=self.count)
            yield f"{pluralize(self.count, noun)} {verb} {text.format(names)}"


@dataclass
class Notes:
    """Collects them, folder by folder in order, in little memory. num_loose: files beside the people's folders."""

    num_loose: int
    num_subfolders: int = 0
    num_photos: int = 0
    deeper: Mentions = field(default_factory=Mentions)
    unreadable: Mentions = field(default_factory=Mentions)
    orphans: Mentions = field(default_factory=Mentions)
    spare: Mentions = field(default_factory=Mentions)
    without: Mentions = field(default_factory=Mentions)
    long: Mentions = field(default_factory=Mentions)
    people: dict[range, Mentions] = field(default_factory=lambda: {numbers: Mentions() for numbers in PHOTO_COUNT_NOTES})
    used: set[Split] = field(default_factory=set)

    def add_folder(self, folder: PersonFolder) -> None:
        """A person's folder, before its photos."""
        self.num_subfolders += folder.num_subfolders
        if folder.num_subfolders:
            self.deeper.add(folder.name)
        if folder.unreadable:
            self.unreadable.add(folder.name)
        self.orphans.add(*(f"{folder.name}/{text}" for text in folder.orphans))
        self.spare.add(*(f"{folder.name}/{text}" for text in folder.spare))

    def add_photo(self, photo: JournalPhoto) -> None:
        """A photo that is kept."""
        self.num_photos += 1
        if not photo.captions:
            self.without.add(photo.path)
        if len(photo.captions) > CAPTIONS_PER_PHOTO:
            self.long.add(photo.path)

    def add_person(self, name: str, count: int) -> None:
        """A person of whom so many photos are kept."""
        if count:
            self.used.add(split_by_name(name))
        for numbers, mentions in self.people.items():
            if count in numbers:
                mentions.add(name)

    def texts(self) -> Iterator[str]:
        """Files that are passed over, captions, people with too few photos, splits without people."""
        if self.num_loose:
            yield f"{pluralize(self.num_loose, 'file lies', 'files lie')} beside the people's folders: passed over"
        if self.num_subfolders:
            subfolders = pluralize(self.num_subfolders, "folder lies", "folders lie")
            names = abbreviate(self.deeper.first, count=self.deeper.count)
            yield f"{subfolders} inside people's folders ({names}): passed over; photos lie directly in a person's"
        yield from self.unreadable.sentences("person", "a folder that cannot be read ({}): left out")
        yield from self.orphans.sentences("caption file", "no photo of the same name beside them ({}): passed over")
        yield from self.spare.sentences("photo", f"a {CAPTION_SUFFIXES[0]} beside them, too ({{}}): that one is read")
        if self.without.count == self.num_photos:
            yield f'no captions: every one is "{UNKNOWN_PERSON}"; measuring needs no more, training learns no word from it'
        else:
            yield from self.without.sentences("photo", f'no caption ({{}}): "{UNKNOWN_PERSON}" is taken')
        many = f"more than {CAPTIONS_PER_PHOTO} captions ({{}}): the first {CAPTIONS_PER_PHOTO} are used"
        yield from self.long.sentences("photo", many)

        for numbers, text in PHOTO_COUNT_NOTES.items():
            yield from self.people[numbers].sentences("person", text)
        if empty := [split for split in SPLITS[:3] if split not in self.used]:
            yield (
                f"nobody is in {', '.join(empty)}: who is where follows from the folder's name alone, so a split of few people "
                "may stay empty; measure all by --split all of `tenth benchmark export`, add people (twenty are mostly"
                " enough), or rename a folder to draw it anew"
            )
