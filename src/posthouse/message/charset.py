"""Octets in a named charset to text.

Promises: never raises; the text has no lone surrogates, so it can be stored anywhere. A name that mail gets wrong is
read as what its senders mean, as browsers do (WHATWG Encoding §4.2): ISO-8859-1 is windows-1252, GB2312 is GB18030.
Refuses: to ask Python's codec registry for a stranger's name: it looks in the file system and remembers every name for
ever. Names are looked up in a table made once.
"""

from encodings.aliases import aliases
from typing import Final

_KNOWN: Final = frozenset(
    f"""
    ascii latin_1 utf_7 utf_8 utf_8_sig utf_16 utf_16_be utf_16_le utf_32 utf_32_be utf_32_le
    {" ".join(f"iso8859_{number}" for number in range(2, 17) if number != 12)}
    {" ".join(f"cp{number}" for number in range(1250, 1259))}
    cp037 cp437 cp500 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865 cp866
    cp869 cp874 cp875 cp932 cp949 cp950 cp1006 cp1026 cp1125 cp1140
    koi8_r koi8_u koi8_t kz1048 ptcp154 hp_roman8 tis_620 johab hz big5 big5hkscs gb2312 gbk gb18030
    euc_jp euc_jis_2004 euc_jisx0213 shift_jis shift_jis_2004 shift_jisx0213 euc_kr
    iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr
    mac_arabic mac_croatian mac_cyrillic mac_farsi mac_greek mac_iceland mac_latin2 mac_roman mac_romanian mac_turkish
    """.split()
)
# What a name promises -> what its senders write.
_MEANT: Final = {
    "latin_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso2022_jp": "iso2022_jp_ext",
    "utf_8_sig": "utf_8",
}
# Names seen in mail that Python has no alias for.
_ALSO: Final = {
    "ansi_x3_4_1968": "ascii",
    "ansi": "cp1252",
    "cp_850": "cp850",
    "cp1252": "cp1252",
    "cn_big5": "big5",
    "x_big5": "big5",
    "cn_gb": "gb2312",
    "x_gbk": "gb2312",
    "x_euc_jp": "euc_jp",
    "x_euc_kr": "euc_kr",
    "ks_c_5601": "euc_kr",
    "ks_c_5601_1987": "euc_kr",
    "ks_c_5601_1989": "euc_kr",
    "iso_8859_8_i": "iso8859_8",
    "iso_8859_8_e": "iso8859_8",
    "iso_8859_6_i": "iso8859_6",
    "iso_8859_6_e": "iso8859_6",
    "x_sjis": "shift_jis",
    "x_mac_roman": "mac_roman",
    "macintosh": "mac_roman",
    "x_mac_cyrillic": "mac_cyrillic",
    "x_mac_ce": "mac_latin2",
    "dos_866": "cp866",
    "x_cp1250": "cp1250",
    "x_cp1251": "cp1251",
    "x_cp1252": "cp1252",
    "unicode_1_1_utf_7": "utf_7",
    "unicode_1_1_utf_8": "utf_8",
    "x_unicode_2_0_utf_7": "utf_7",
    "utf8mb4": "utf_8",
    "utf": "utf_8",
}


def _table() -> dict[str, str]:
    names = {name: name for name in _KNOWN}
    names |= {name.replace("_", "-"): name for name in _KNOWN}
    names |= {alias: codec for alias, codec in aliases.items() if codec in _KNOWN}
    names |= _ALSO
    for number in range(1250, 1259):
        names[f"win_{number}"] = names[f"windows{number}"] = names[f"windows_{number}"] = f"cp{number}"
    table = {name.replace("-", "_"): _MEANT.get(codec, codec) for name, codec in names.items()}
    table |= {name.replace("_", "-"): codec for name, codec in table.items()}
    return table


_CODECS: Final = _table()


def codec(charset: str) -> str | None:
    """The name Python knows this charset by; None where it is not known."""
    found = _CODECS.get(charset)
    return found or _CODECS.get(charset.strip(" \t'\"").lower().replace("-", "_").replace(" ", "_"))


def decode(octets: bytes, charset: str | None = None) -> str:
    """The text. Octets that the charset does not have become U+FFFD; an unknown charset reads as undeclared ones do."""
    name = codec(charset) if charset else None
    if name is None or name == "ascii":
        return undeclared(octets)
    text = octets.decode(name, "replace")
    if name == "utf_7":  # the one decoder that lets lone surrogates through
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def undeclared(octets: bytes) -> str:
    """Text that does not say its charset: UTF-8 where it is (RFC 6532 §3.1), else windows-1252, the most common
    other.
    """
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("cp1252", "replace")
