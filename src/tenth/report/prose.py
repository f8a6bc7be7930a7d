"""What the page says of its tables and pictures, whatever the numbers are."""

NOT_COMPARABLE = """
The project starts from a published table of three rows on LFW, of which only these ranges are known: Inception score 14 to
17, FID 9 to 10. The cells measured here stand beside it and are not comparable with it. It states no protocol, and FID
depends on how many images and photos there are, on the resize and on the codec. Real faces score 2 to 5 on the Inception
score, so 14 to 17 cannot be the same measurement. What can be compared are rows that were measured here, on the same
people, prompts and seeds.
"""
MORE_PHOTOS = """
Identity over the number of photos given: each method in blue with its 95 % interval, the others in grey, the baseline
dashed, the floor (a face that is nobody's) dotted. A hollow point is the largest number with photos of somebody else among
them.
"""
LIKENESS = """
Identity against the copy index; thin bars are 95 % intervals over people. Good is high and near a copy index of 0: like the
person, in a new picture. High and far to the right is a copied photo.
"""
PAIRS = """
Read along a row: a positive number says that its method is more like the person than the column's. Where the record has
it, p is corrected for the number of comparisons by Holm's method, and wins is the share of people for whom the row's method
is the higher. run.json holds what was compared besides.
"""
NO_IMAGES = """
The images are not in this folder. They lie beside the record on the machine that drew them; made there, this page shows
them.
"""
REAL_FACES = "In this file are crops of real photos of"
HAND_ON = "Hand it on only to those to whom you would hand the photos."
