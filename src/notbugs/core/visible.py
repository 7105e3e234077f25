"""Escapes untrusted text (names, paths, content of files) before it is displayed."""

import re

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, escapes among them
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e"  # marks of direction, of zero width
    "\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"  # tags
    "\ud800-\udfff]"  # bytes of file names that are not UTF-8
)


def visible(text: str) -> str:
    r"""The text with control and invisible characters written as escapes.

    Control characters, direction marks and zero-width characters become `\x1b` or `\u202e`;
    bytes of a file name that are not UTF-8 become `\xff`. Line ends and tabs stay.

    >>> visible("a\x1b[31mb\u202e")
    'a\\x1b[31mb\\u202e'
    """
    return _INVISIBLE.sub(_escaped, text)


def one_line(text: str) -> str:
    r"""`visible` with line ends as `\n`, so that a name cannot look like another message.

    >>> one_line("a\nerror: b")
    'a\\nerror: b'
    """
    return visible(text).replace("\n", "\\n")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that it could not decode
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
