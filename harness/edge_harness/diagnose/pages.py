"""Programs that assume 4 KiB pages, on a board whose kernel has larger ones."""

from __future__ import annotations

import re

#: What such programs and the C library say. glibc: elf/dl-load.c; jemalloc: src/pages.c;
#: EINVAL is mmap(2)'s and mprotect(2)'s answer to an address or offset inside a page.
_SIGNS = (
    (
        r"ELF load command (?:address/offset|alignment) not (?:properly|page)[- ]aligned",
        "a library was linked for smaller pages",
    ),
    (r"Unsupported system page size", "jemalloc was built for smaller pages"),
    (
        r"(?:mmap|mprotect|munmap|msync|remap)[^\n]*(?:Invalid argument|EINVAL|\[Errno 22\])",
        "a memory mapping begins inside a page",
    ),
    (
        r"\[Errno 22\] Invalid argument|offset must be a multiple of (?:ALLOCATION|the page)",
        "an address, offset or length may be no multiple of the page size",
    ),
    (r"page size[^\n]*(?:4096|expected|assum|must)", "the program checks for a page size"),
)


def page_size_hint(said: str, page_size_kib: int) -> str:
    """Why a program that ended with these words may have failed on pages of ``page_size_kib``;
    "" where the pages are 4 KiB or the words are of something else."""
    if page_size_kib == 4:
        return ""
    for pattern, meaning in _SIGNS:
        if re.search(pattern, said, re.IGNORECASE):
            return (
                f"this device has pages of {page_size_kib} KiB, and programs made for 4 KiB pages "
                f"fail on it: {meaning}"
            )
    return ""
