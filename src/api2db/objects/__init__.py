"""Folders of files in object stores: Amazon S3 and what speaks its protocol, Azure, Google Cloud.

A file is complete on this machine's disk before its upload begins. It becomes visible by one request, which the store
carries out as a whole or not at all: a put with ``If-None-Match: *``, or for a large file, a copy under the same
condition of an upload in several parts that is under a hidden name until then. If the name is taken, the object there
may be the file itself, published before a crash: it then has the name of the temporary file in its metadata, or for a
large file, its bytes.

An upload and the note of it are two steps. A store that takes files away in between, after a crash, would let the next
process upload them again. So the names of a plan stand in a small object until all its files are published and their
temporary files are gone, and a store leaves these names alone::

    <address>/1767225600000000000.parquet     a file
    <address>/.api2db/plans/<plan>.json       the names that are being published
    <address>/.api2db/uploads/<temporary>     a large file before it has its name
    <address>/.api2db/store.json              the project whose stores take the files

``_address`` has the addresses, options and errors; ``_folder`` has the requests.
"""

from api2db.objects._address import Address, is_address
from api2db.objects._folder import ObjectFolder, is_stand_in

__all__ = ["Address", "ObjectFolder", "is_address", "is_stand_in"]
