"""The mark that every reader of metadata sees: IPTC's digital source type, as XMP."""

from __future__ import annotations

import re

# IPTC's word for a picture that a trained model made. A name, not an address: nothing is fetched.
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
GENERATOR = "tenth"  # by which our own XMP and manifests are told from others'
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'  # fixed by the standard
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    f' xmlns:xmp="http://ns.adobe.com/xap/1.0/" Iptc4xmpExt:DigitalSourceType="{DIGITAL_SOURCE_TYPE}"'
    f' xmp:CreatorTool="{GENERATOR}"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
).encode()
OUR_XMP = re.compile(rb"CreatorTool(=\"|>)tenth[\"<]")  # also as other programs write it anew
