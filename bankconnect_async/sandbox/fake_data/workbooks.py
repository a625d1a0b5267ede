"""
XLSX workbooks with the least that a spreadsheet program opens.
"""

import io
import zipfile

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias
from xml.sax.saxutils import escape


Cell: TypeAlias = str | float

_OFFICE: Final = "http://schemas.openxmlformats.org"
_SHEETS: Final = f"{_OFFICE}/spreadsheetml/2006/main"
_LINKS: Final = f"{_OFFICE}/officeDocument/2006/relationships"
_MEDIA: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# ZIP has no earlier time, and the bytes must not change from call to call.
_NO_TIME: Final = (1980, 1, 1, 0, 0, 0)


def _relationship(kind: str, target: str) -> str:
    return (
        f'<Relationships xmlns="{_OFFICE}/package/2006/relationships">'
        f'<Relationship Id="rId1" Type="{_LINKS}/{kind}" Target="{target}"/>'
        "</Relationships>"
    )


_PARTS: Final = {
    "[Content_Types].xml": (
        f'<Types xmlns="{_OFFICE}/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats'
        '-package.relationships+xml"/><Override PartName="/xl/workbook.xml" '
        f'ContentType="{_MEDIA}.sheet.main+xml"/>'
        '<Override PartName="/xl/worksheets/sheet1.xml" '
        f'ContentType="{_MEDIA}.worksheet+xml"/></Types>'
    ),
    "_rels/.rels": _relationship("officeDocument", "xl/workbook.xml"),
    "xl/workbook.xml": (
        f'<workbook xmlns="{_SHEETS}" xmlns:r="{_LINKS}"><sheets>'
        '<sheet name="Transactions" sheetId="1" r:id="rId1"/></sheets>'
        "</workbook>"
    ),
    "xl/_rels/workbook.xml.rels": _relationship(
        "worksheet", "worksheets/sheet1.xml"
    ),
    "xl/worksheets/sheet1.xml": (
        f'<worksheet xmlns="{_SHEETS}"><sheetData>{{}}</sheetData></worksheet>'
    ),
}


def write_workbook(rows: Iterable[Sequence[Cell]]) -> bytes:
    """
    Return a workbook of one sheet; the same rows give the same bytes.
    """
    cells = "".join(f"<row>{''.join(map(_cell, row))}</row>" for row in rows)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in _PARTS.items():
            archive.writestr(
                zipfile.ZipInfo(name, _NO_TIME),
                '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
                + part.replace("{}", cells),
                compress_type=zipfile.ZIP_DEFLATED,
            )
    return buffer.getvalue()


def _cell(value: Cell) -> str:
    if isinstance(value, str):
        return f'<c t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f"<c><v>{value}</v></c>"
